//! Two sides whose every number is known.

use std::fs;

use serde_json::{Value, json};

use crate::world::{at, before_and_after, compare, dataset, everybody, neutral, pa_score, scores};

/// Chain probabilities are near 0 and 1 on these portraits; soft shares are off by this at most.
const SURE: f64 = 0.05;

#[test]
fn every_number_of_a_comparison() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let scores = scores(&mut compare(dir.path()), dir.path());
    assert_eq!(scores["format"], "popalign-scores-1");

    // Twelve times one man: √½ from even halves, √⅔ from even thirds.
    let expected = [
        ("gender", 0.5f64.sqrt()),
        ("skin", (2.0f64 / 3.0).sqrt()),
        ("age", 0.5f64.sqrt()),
    ];
    for (index, (name, before)) in expected.into_iter().enumerate() {
        let axis = &scores["axes"][index];
        assert_eq!(axis["axis"], name);
        assert_eq!(
            (at(axis, "/prompts"), at(axis, "/prompts_left_out")),
            (2.0, 0.0)
        );
        for key in ["discrepancy", "soft_discrepancy"] {
            let tolerance = if key == "discrepancy" { 1e-9 } else { SURE };
            let value = |side: &str| at(axis, &format!("/{key}/{side}/value"));
            assert!(
                (value("against") - before).abs() < tolerance,
                "{name} {key}"
            );
            assert!(value("scored").abs() < tolerance, "{name} {key}");
            assert!(
                (value("difference") + before).abs() < 2.0 * tolerance,
                "{name} {key}"
            );
        }
        // Every resample of equal pictures is the same; those of the fair side are not.
        assert_eq!(
            at(axis, "/discrepancy/against/low"),
            at(axis, "/discrepancy/against/high")
        );
        assert!(at(axis, "/discrepancy/scored/low") < at(axis, "/discrepancy/scored/high"));
        assert!(at(axis, "/discrepancy/difference/high") < -0.2);
        assert_eq!(axis["floor"]["scored"], axis["floor"]["against"]);
        assert!(at(axis, "/floor/scored") > 0.1);
    }
    assert_eq!(
        scores["axes"][0]["shares"],
        json!({"scored": [0.5, 0.5], "against": [1.0, 0.0]})
    );

    let recall = &scores["recall"];
    assert_eq!(at(recall, "/prompts"), 12.0);
    assert_eq!(at(recall, "/all/against/value"), 1.0);
    assert!((at(recall, "/all/scored/value") - 11.0 / 12.0).abs() < 1e-12);
    assert!((at(recall, "/axes/gender/difference/value") + 1.0 / 12.0).abs() < 1e-12);
    assert_eq!(at(recall, "/axes/skin/scored/value"), 1.0);
    assert_eq!(
        recall["values"]["gender"]["female"]["scored"],
        json!({"share": 5.0 / 6.0, "pictures": 6})
    );

    assert_eq!(
        scores["pictures"]["scored"],
        json!({"files": 38, "kept": 36, "dropped": {"no_person": 2}})
    );
    assert_eq!(at(&scores, "/pictures_by_kind/other/against/files"), 2.0);
    assert_eq!(at(&scores, "/similarity/other/pixel_difference/value"), 0.0);
    assert!((at(&scores, "/similarity/other/clip_cosine/value") - 1.0).abs() < 1e-6);
    assert!(at(&scores, "/similarity/neutral/pixel_difference/value") > 0.01);
    let metrics: Vec<&str> = scores["quality"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| q["metric"].as_str().unwrap())
        .collect();
    assert_eq!(metrics, ["clip", "reference", "frechet"]);
    // The same two houses on both sides.
    assert_eq!(at(&scores, "/quality/0/kinds/other/difference/value"), 0.0);
    assert!(scores["quality"][2]["all"]["scored"]["low"].is_null());

    let prompt = &scores["prompts"][0];
    assert_eq!(
        (&prompt["prompt"], &prompt["kind"]),
        (&json!("a photo of a baker"), &json!("neutral"))
    );
    assert_eq!(
        prompt["axes"][1]["shares"]["against"],
        json!([1.0, 0.0, 0.0])
    );
    assert_eq!(scores["rows"].as_array().unwrap().len(), 76);
    let row = &scores["rows"][6];
    assert_eq!(
        (&row["side"], &row["prompt"]),
        (&json!("scored"), &json!(0))
    );
    assert_eq!(row["axes"]["gender"][0], "female");
    assert!(row["clip"].is_number() && row["dropped"].is_null());
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let mut written = Vec::new();
    for (name, threads) in [("a", "2"), ("b", "2"), ("c", "1")] {
        let out = dir.path().join(name);
        let output = compare(dir.path())
            .args(["--threads", threads])
            .arg("--out")
            .arg(out.join("scores.json"))
            .arg("--html")
            .arg(out.join("report.html"))
            .output()
            .unwrap();
        assert!(output.status.success());
        let read = |file: &str| fs::read(out.join(file)).unwrap();
        written.push((read("scores.json"), read("report.html")));
    }
    assert!(written[0] == written[1], "the same command");
    // Bootstrap and classifiers don't depend on the threads; CLIP's last bits may.
    let axes = |bytes: &[u8]| {
        let value: Value = serde_json::from_slice(bytes).unwrap();
        (value["axes"].clone(), value["recall"].clone())
    };
    assert_eq!(axes(&written[0].0), axes(&written[2].0));
}

#[test]
fn joint_axes_targets_and_chosen_metrics() {
    let dir = tempfile::tempdir().unwrap();
    dataset(
        &dir.path().join("fair"),
        true,
        &[neutral("baker", &everybody())],
    );
    let target = dir.path().join("target.toml");
    fs::write(&target, "gender = { female = 1.0 }\n").unwrap();
    let mut command = pa_score();
    command
        .arg(dir.path().join("fair"))
        .args(["--metrics", "gender,gender+age", "--target"])
        .arg(&target);
    let scores = scores(&mut command, dir.path());
    // Half are women where all should be: √(¼ + ¼).
    assert!((at(&scores, "/axes/0/discrepancy/scored/value") - 0.5f64.sqrt()).abs() < 1e-9);
    let joint = &scores["axes"][1];
    assert_eq!(
        joint["values"],
        json!(["male young", "male old", "female young", "female old"])
    );
    assert_eq!(joint["target"], json!([0.0, 0.0, 0.5, 0.5]));
    assert!((at(joint, "/discrepancy/scored/value") - 0.5).abs() < 1e-9);
    assert_eq!(scores["quality"], json!([]));
    assert!(scores["recall"].is_null() && scores["axes"][0]["discrepancy"]["against"].is_null());
}

/// What a caption is about is what it was about before: "mountain", whose pictures alignment made
/// portraits, once counted as a neutral prompt about people.
#[test]
fn things_that_became_people_stay_things() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let man = "male-light-old";
    dataset(
        &before,
        false,
        &[neutral("house", &["house", "house", man])],
    );
    dataset(&after, false, &[neutral("house", &[man, man, man])]);
    let mut command = pa_score();
    command.arg(&after).arg("--against").arg(&before);
    let html = dir.path().join("report.html");
    command.arg("--html").arg(&html);
    let scores = scores(&mut command, dir.path());
    assert_eq!(scores["prompts"][0]["kind"], "other");
    assert_eq!(at(&scores, "/axes/0/prompts"), 0.0);
    let page = fs::read_to_string(html).unwrap();
    assert!(page.contains("a person in 1 of 3 → 3 of 3"));
}

/// A prompt that only one side has pictures of people for does not enter the comparison.
#[test]
fn prompts_of_one_side_are_left_out_of_means() {
    let dir = tempfile::tempdir().unwrap();
    let people = everybody();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let lost = neutral("tailor", &["ambiguous", "ambiguous"]);
    dataset(
        &before,
        true,
        &[neutral("baker", &people), neutral("tailor", &people)],
    );
    dataset(
        &after,
        true,
        &[neutral("baker", &people), lost, neutral("nurse", &people)],
    );
    let mut command = pa_score();
    command.arg(&after).arg("--against").arg(&before);
    let scores = scores(&mut command, dir.path());
    let gender = &scores["axes"][0];
    assert_eq!(
        (at(gender, "/prompts"), at(gender, "/prompts_left_out")),
        (1.0, 2.0)
    );
    assert_eq!(at(gender, "/discrepancy/difference/value"), 0.0);
    assert_eq!(
        scores["prompts"][1]["pictures"]["scored"],
        json!({"files": 2, "kept": 0, "dropped": {"ambiguous": 2}})
    );
}
