//! Any folder of pictures: named folders, tables, files beside pictures, broken files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::stderr;
use crate::world::{at, bundle, pa_score, portrait, scores};

fn copy(name: &str, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(portrait(name), to).unwrap();
}

fn prompts(scores: &Value) -> Vec<(&str, &str)> {
    let prompts = scores["prompts"].as_array().unwrap().iter();
    prompts
        .map(|p| (p["prompt"].as_str().unwrap(), p["kind"].as_str().unwrap()))
        .collect()
}

#[test]
fn sub_folders_are_prompts_and_broken_files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pictures");
    copy("male-light-old", &root.join("a baker/1.png"));
    copy("female-dark-young", &root.join("a baker/2.png"));
    copy("house", &root.join("a house/1.png"));
    copy(
        "wide",
        &root.join("a photo of a old dark-skinned female baker/x.png"),
    );
    // A JPEG's name with a PNG in it is no problem; half a picture and a text are.
    copy("ambiguous", &root.join("a baker/3.jpg"));
    let whole = fs::read(portrait("male-dark-old")).unwrap();
    fs::write(root.join("a baker/4.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(root.join("a baker/5.jpeg"), "no picture").unwrap();
    fs::write(root.join("a baker/notes.txt"), "no picture").unwrap();
    let scores = scores(pa_score().arg(&root), dir.path());
    assert_eq!(
        prompts(&scores),
        [
            ("a baker", "neutral"),
            ("a house", "other"),
            ("a photo of a old dark-skinned female baker", "specific"),
        ]
    );
    assert_eq!(
        scores["prompts"][0]["pictures"]["scored"],
        json!({"files": 5, "kept": 2, "dropped": {"ambiguous": 1, "unreadable": 2}})
    );
    assert_eq!(at(&scores, "/axes/0/discrepancy/scored/value"), 0.0);
    assert_eq!(at(&scores, "/recall/all/scored/value"), 1.0);
    assert_eq!(scores["inputs"]["scored"][0]["layout"], "folders");
}

#[test]
fn a_flat_folder_is_one_prompt() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a photo of a baker");
    copy("male-light-old", &root.join("1.png"));
    let scores = scores(pa_score().arg(&root), dir.path());
    assert_eq!(prompts(&scores), [("a photo of a baker", "neutral")]);
    // A folder's name is a caption as good as any.
    assert!(at(&scores, "/prompts/0/clip/scored") > 20.0);
}

#[test]
fn tables_and_files_beside_pictures_bring_captions() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("csv");
    copy("male-light-old", &csv.join("x/1.png"));
    fs::write(
        csv.join("metadata.csv"),
        "file_name,text\nx/1.png,a photo of a old light-skinned male baker\nx/2.png,a cat\n",
    )
    .unwrap();
    let beside = dir.path().join("beside");
    copy("male-light-old", &beside.join("img_1_seed_0_0.png"));
    fs::write(
        beside.join("img_1_seed_0_0.json"),
        json!({"file_path": "img_1_seed_0_0.png", "prompt": "a photo of a baker"}).to_string(),
    )
    .unwrap();
    let scores = scores(pa_score().args([&csv, &beside]), dir.path());
    assert_eq!(
        prompts(&scores),
        [
            ("a photo of a old light-skinned male baker", "specific"),
            ("a cat", "neutral"),
            ("a photo of a baker", "neutral"),
        ]
    );
    // The file that the table names and the folder lacks.
    assert_eq!(
        scores["prompts"][1]["pictures"]["scored"]["dropped"],
        json!({"unreadable": 1})
    );
    let layouts: Vec<&Value> = scores["inputs"]["scored"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["layout"])
        .collect();
    assert_eq!(layouts, ["imagefolder", "sidecars"]);
}

#[test]
fn public_imagefolders_keep_their_own_meanings_and_their_splits() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("public");
    for (split, row) in [
        (
            "train",
            json!({"prompt": "a baker", "text": "y", "seed": -1}),
        ),
        (
            "test",
            json!({"text": "a house", "kind": "photo", "axes": [1], "image_id": "x"}),
        ),
    ] {
        copy("male-light-old", &root.join(split).join("1.png"));
        let mut row = row;
        row["file_name"] = "1.png".into();
        fs::write(
            root.join(split).join("metadata.jsonl"),
            format!("\u{feff}{row}\r"),
        )
        .unwrap();
    }
    let found = scores(pa_score().arg(&root), dir.path());
    assert_eq!(found["inputs"]["scored"][0]["layout"], "imagefolder");
    let texts: Vec<&str> = prompts(&found).into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["a house", "a baker"]);
    for prompt in found["prompts"].as_array().unwrap() {
        assert_eq!(
            prompt["pictures"]["scored"],
            json!({"files": 1, "kept": 1, "dropped": {}})
        );
    }
}

#[test]
fn without_a_bundle_the_chain_says_what_the_axes_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("p");
    copy("male-light-old", &root.join("1.png"));
    let axes = |chain: &Path| {
        let mut command = crate::world::bare();
        command.arg(&root).arg("--chain").arg(chain);
        let scores = scores(&mut command, dir.path());
        assert_eq!(scores["quality"], json!([]));
        let axes = scores["axes"].as_array().unwrap().iter();
        let names = axes.map(|a| a["axis"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    // Beside the bundle's chain lies an axes file; a chain alone has its axes by name.
    assert_eq!(axes(bundle()), ["gender", "skin", "age"]);
    let alone = fs::read_to_string(bundle().join("chain.toml")).unwrap();
    let model = bundle().join("classifier/model.onnx");
    let alone = alone.replace("classifier/model.onnx", model.to_str().unwrap());
    fs::write(dir.path().join("chain.toml"), alone).unwrap();
    assert_eq!(
        axes(&dir.path().join("chain.toml")),
        ["age", "gender", "skin"]
    );
}

#[test]
fn events_are_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    copy("male-light-old", &dir.path().join("1.png"));
    let output = pa_score().arg(dir.path()).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["start", "looked", "done"]);
    assert_eq!(events[0]["pictures"], 1);
}
