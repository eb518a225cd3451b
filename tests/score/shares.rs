//! Metrics of shares beside scipy's and numpy's (`scripts/oracle/shares.py`), and where they stand
//! in the files.

use std::fs;

use popalign::score::bootstrap::{Estimate, Population, Strata};
use popalign::score::measure::{Compared, Measure, Reading};
use popalign::score::metrics::discrepancy::{self, bounds};
use popalign::score::metrics::metric::{Axes, Metric, Over, Shape};
use popalign::score::metrics::{entropy, parity_gap, pooled_discrepancy};
use serde_json::{Value, json};

use crate::process::stderr;
use crate::world::{
    at, bare, before_and_after, compare, dataset, frozen, neutral, pa_score, scores, specific,
};

const RESAMPLES: u32 = 20_000;
/// As in `oracle.rs`: the ends of both bootstraps have errors of Monte Carlo, together 0.11 of the
/// statistic's deviation.
const END_TOLERANCE: f64 = 0.11;
/// The ends may fall on the next of the steps in which a gap moves: one picture of 6 · 20.
const STEP: f64 = 1.0 / 120.0 + 1e-12;
/// scipy adds the same numbers in another order.
const ROUNDING: f64 = 1e-12;

fn axes(metric: &'static Metric) -> &'static Axes {
    match &metric.shape {
        Shape::Axes(axes) => axes,
        other => panic!("{other:?}"),
    }
}

/// The pictures of one axis, as a measure of one side, and their prompts.
fn labelled(axis: &Value, metric: &'static Metric) -> (Measure, Population) {
    let labels: Vec<Vec<usize>> = serde_json::from_value(axis["labels"].clone()).unwrap();
    let values = at(axis, "/values") as usize;
    let pictures: usize = labels.iter().map(Vec::len).sum();
    let (of, target) = (axes(metric).of, vec![1.0 / values as f64; values]);
    let reading = match axes(metric).over {
        Over::Prompts => Reading::Shares { of, target },
        Over::Pool => Reading::Pooled { of, target },
    };
    let mut measure = Measure::new(reading, pictures, false);
    let mut prompts = Vec::new();
    let mut slot = 0;
    for labels in &labels {
        let mut strata = Strata::default();
        for &label in labels {
            let mut one_hot = vec![0.0; values];
            one_hot[label] = 1.0;
            measure.set(0, slot, &one_hot);
            strata.slots[0].push(u32::try_from(slot).unwrap());
            slot += 1;
        }
        prompts.push(strata);
    }
    let population = Population {
        prompts,
        tag: 7,
        seed: 1,
    };
    (measure, population)
}

fn check(name: &str, ours: Compared, theirs: &Value, step: f64) {
    let ours: Estimate = ours.sides[0].unwrap();
    assert!(
        (ours.value - at(theirs, "/value")).abs() < ROUNDING,
        "{name}: {ours:?}, scipy {theirs}"
    );
    let (low, high) = ours.interval().unwrap();
    let tolerance = (END_TOLERANCE * at(theirs, "/deviation")).max(step);
    for (end, key) in [(low, "/low"), (high, "/high")] {
        let expected = at(theirs, key);
        assert!(
            (end - expected).abs() <= tolerance,
            "{name}: {end}, scipy {expected}"
        );
    }
}

#[test]
fn metrics_of_shares_are_scipys() {
    let frozen = frozen("shares.json");
    for (metric, step) in [
        (&entropy::METRIC, 0.0),
        (&parity_gap::METRIC, STEP),
        (&discrepancy::METRIC, STEP),
        (&pooled_discrepancy::METRIC, STEP),
    ] {
        let mut measures = Vec::new();
        let mut prompts = None;
        for (index, axis) in frozen["axes"].as_array().unwrap().iter().enumerate() {
            let (measure, population) = labelled(axis, metric);
            let theirs = &frozen[metric.key][index];
            let name = format!("{} of {}", metric.key, axis["axis"]);
            check(
                &name,
                measure.estimate(&population, RESAMPLES),
                theirs,
                step,
            );
            measures.push(measure);
            prompts = Some(population);
        }
        if let Some(joined) = &axes(metric).joined {
            let population = prompts.unwrap();
            let ours = Measure::estimate_joined(&measures, joined.of, &population, RESAMPLES);
            check(joined.key, ours, &frozen[joined.key][0], step);
        }
    }
}

#[test]
fn bounds_are_numpys_over_every_outcome() {
    for case in frozen("shares.json")["bounds"].as_array().unwrap() {
        let numbers =
            |key: &str| -> Vec<f64> { serde_json::from_value(case[key].clone()).unwrap() };
        let dropped = at(case, "/dropped") as usize;
        let [low, high] = bounds(&numbers("target"), &numbers("counts"), dropped).unwrap();
        assert!((low - at(case, "/low")).abs() < ROUNDING, "{low}, {case}");
        assert!(
            (high - at(case, "/high")).abs() < ROUNDING,
            "{high}, {case}"
        );
    }
}

/// Bakers are all men, tailors all women: each prompt is far from half, all together are half. Of the
/// bakers two pictures are dropped, of whom one is a file that can't be read.
#[test]
fn means_pools_bounds_and_strict_recall_stand_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("set");
    let (man, woman) = ("male-light-old", "female-light-old");
    dataset(
        &root,
        true,
        &[
            neutral("baker", &[man, man, man, "ambiguous", man]),
            neutral("tailor", &[woman, woman, woman]),
            neutral("nurse", &["ambiguous"]),
            specific("cook", "male-light-old", &[man, woman, "ambiguous", man]),
        ],
    );
    fs::write(root.join("images/0-4.png"), "").unwrap();
    let html = dir.path().join("report.html");
    let mut command = pa_score();
    command.arg(&root).arg("--html").arg(&html);
    let all = scores(&mut command, dir.path());
    let gender = &all["axes"][0];
    let half = 0.5f64.sqrt();
    let near = |pointer: &str, expected: f64| {
        let found = at(gender, pointer);
        assert!(
            (found - expected).abs() < 1e-12,
            "{pointer}: {found}, {expected}"
        );
    };
    near("/discrepancy/scored/value", half);
    near("/pooled_discrepancy/scored/value", 0.0);
    // Bakers: of 3 + 2, of which the two may be women. The nurse may be either.
    let baker = 2f64.sqrt() * 0.1;
    near(
        "/discrepancy_bounds/scored/low",
        (baker + half + half) / 3.0,
    );
    near("/discrepancy_bounds/scored/high", half);
    // Together: 3 men, 3 women and 3 of either: 5 of 9 or 6 of 9.
    near("/pooled_discrepancy_bounds/scored/low", 2f64.sqrt() / 18.0);
    near("/pooled_discrepancy_bounds/scored/high", 2f64.sqrt() / 6.0);
    near("/pooled_discrepancy_bounds/scored/dropped", 3.0);
    near("/prompts", 2.0);
    near("/prompts_left_out", 1.0);
    let baker = &all["prompts"][0]["axes"][0];
    assert_eq!(at(baker, "/discrepancy_bounds/scored/dropped"), 2.0);
    assert!(baker["pooled_discrepancy"].is_null());

    assert!((at(&all, "/recall/all/scored/value") - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(at(&all, "/strict_recall/all/scored/value"), 0.5);
    assert_eq!(at(&all, "/strict_recall/axes/gender/scored/value"), 0.5);
    assert_eq!(
        all["strict_recall"]["values"]["age"]["old"]["scored"],
        json!({"share": 0.75, "pictures": 4})
    );
    let words = |key: &str| all["metrics"][key].as_str().unwrap().to_owned();
    assert!(words("discrepancy").ends_with("mean over prompts"));
    assert!(words("pooled_discrepancy").ends_with("pooled over prompts"));
    let page = fs::read_to_string(html).unwrap();
    for part in [
        "<h2>Discrepancy, mean over prompts</h2>",
        "<h2>Discrepancy, pooled over prompts</h2>",
        "Pooled over prompts, the discrepancy of gender is 0.00",
        "If dropped pictures counted",
        "every picture counted",
        "Gender discrepancy, mean over prompts",
    ] {
        assert!(page.contains(part), "the page lacks: {part}");
    }
    let output = pa_score().arg(&root).output().unwrap();
    let said = stderr(&output);
    for part in [
        "discrepancy of gender, mean over prompts: 0.707",
        "if the 3 dropped counted",
        "pooled_discrepancy of gender, pooled over prompts: 0.000",
        "strict_recall: 0.500",
        "1 of 3 neutral prompts left out",
    ] {
        assert!(said.contains(part), "it doesn't say: {part}\n{said}");
    }
}

#[test]
fn they_stand_in_scores_report_and_help() {
    let dir = tempfile::tempdir().unwrap();
    before_and_after(dir.path());
    let html = dir.path().join("report.html");
    let mut command = compare(dir.path());
    command.arg("--html").arg(&html);
    let all = scores(&mut command, dir.path());
    // One man before, everybody alike after.
    for axis in 0..3 {
        let number = |key: &str, side: &str| at(&all, &format!("/axes/{axis}/{key}/{side}/value"));
        assert_eq!(number("entropy", "against"), 0.0);
        assert!((number("entropy", "scored") - 1.0).abs() < 1e-12);
        assert_eq!(number("parity_gap", "against"), 1.0);
        assert!(number("parity_gap", "scored").abs() < 1e-12);
        assert!(number("soft_entropy", "scored") > 0.9);
        assert!(at(&all, &format!("/prompts/0/axes/{axis}/entropy/scored/low")) < 1.0);
    }
    assert_eq!(at(&all, "/over_axes/id/against/value"), 0.0);
    assert!((at(&all, "/over_axes/id/difference/value") - 1.0).abs() < 1e-12);
    let page = fs::read_to_string(html).unwrap();
    for part in [
        "<section id=\"entropy\">",
        "<section id=\"parity_gap\">",
        "<p class=\"name\">Intrinsic diversity</p>",
        "intrinsic diversity (ID) is its geometric mean",
    ] {
        assert!(page.contains(part), "the page lacks: {part}");
    }

    // By name: of the axes named, joint ones too, which ID passes over.
    let mut command = compare(dir.path());
    command.args(["--metrics", "gender,gender+age,entropy"]);
    let some = scores(&mut command, dir.path());
    assert_eq!(
        some["config"]["metrics"],
        json!(["gender", "gender+age", "entropy"])
    );
    assert!((at(&some, "/axes/1/entropy/scored/value") - 1.0).abs() < 1e-12);
    assert!(some["axes"][0]["parity_gap"].is_null());
    assert_eq!(
        some["over_axes"]["id"]["scored"],
        some["axes"][0]["entropy"]["scored"]
    );
    // Of all axes if none is named.
    let mut command = compare(dir.path());
    command.args(["--metrics", "parity"]);
    let named = scores(&mut command, dir.path());
    assert_eq!(named["axes"].as_array().unwrap().len(), 3);
    assert!(named["over_axes"].is_null() && named["recall"].is_null());

    let help = bare().arg("-h").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let words: Vec<&str> = help.split_whitespace().collect();
    assert!(
        words.join(" ").contains("entropy, parity, recall, clip"),
        "{help}"
    );
}
