//! What is left out is counted and named, and nothing left is a failure.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::stderr;
use crate::world::{at, bare, bundle, dataset, neutral, pa_score, portrait, scores};

/// A file of the frozen ones (`scripts/oracle/formats.py`).
fn frozen(name: &str) -> Vec<u8> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/formats.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let lists = ["read", "refused"].map(|key| all[key].as_array().unwrap().clone());
    let case = lists
        .concat()
        .into_iter()
        .find(|c| c["name"] == name)
        .unwrap();
    STANDARD.decode(case["file"].as_str().unwrap()).unwrap()
}

fn folder(root: &Path, prompt: &str) -> std::path::PathBuf {
    let folder = root.join(prompt);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Last lines, the last event and the file say the same.
#[test]
fn every_reason_is_said_last_and_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pictures");
    let baker = folder(&root, "a baker");
    fs::copy(portrait("male-light-old"), baker.join("1.png")).unwrap();
    fs::copy(portrait("house"), baker.join("2.png")).unwrap();
    fs::copy(portrait("male-dark-old"), baker.join("3.png")).unwrap();
    let whole = fs::read(portrait("male-dark-old")).unwrap();
    fs::write(baker.join("4.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(baker.join("5.heic"), frozen("x.heic")).unwrap();
    // By their bytes, whatever their names say, or don't.
    fs::write(baker.join("6.jpg"), frozen("x.avif")).unwrap();
    fs::write(baker.join("7"), frozen("x.avif")).unwrap();
    fs::write(baker.join("8.webp"), "").unwrap();
    fs::write(baker.join("A.TGA"), "\0\0\u{2}").unwrap();
    fs::write(
        baker.join("B.png"),
        "version https://git-lfs.github.com/spec/v1\n",
    )
    .unwrap();
    std::os::unix::fs::symlink(".", baker.join("round")).unwrap();
    std::os::unix::fs::symlink("nowhere.png", baker.join("9.png")).unwrap();
    fs::write(baker.join("notes.md"), "BM: no picture").unwrap();
    let out = dir.path().join("scores.json");
    let html = dir.path().join("report.html");
    let output = pa_score()
        .arg(&root)
        .arg("--json")
        .arg("--out")
        .arg(&out)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("links to folders are not followed: 1, such as "),
        "{said}"
    );
    let last = said.lines().last().unwrap();
    for part in [
        "9 of 11 pictures left out: ",
        "1 empty file (",
        "1 missing file (",
        "1 no person (",
        "1 truncated PNG (",
        "2 unsupported format AVIF (",
        "1 unsupported format HEIC (",
        "1 unsupported format TGA (",
        "1 unsupported format Git LFS pointer (",
        "a baker/5.heic",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    let scores: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    let left = &scores["left_out"]["scored"];
    assert_eq!((at(left, "/pictures"), at(left, "/of")), (9.0, 11.0));
    assert_eq!(at(left, "/reasons/unsupported_format_AVIF/pictures"), 2.0);
    // As before, beside it.
    assert_eq!(
        scores["pictures"]["scored"],
        json!({"files": 11, "kept": 2, "dropped": {"no_person": 1, "unreadable": 8}})
    );
    assert_eq!(at(&scores, "/quality/0/pictures/scored"), 3.0);
    let problems: Vec<&str> = scores["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["problem"].as_str())
        .collect();
    assert_eq!(problems.len(), 8);
    assert!(problems[0].starts_with("truncated PNG: "), "{problems:?}");
    let events = String::from_utf8(output.stdout).unwrap();
    let done: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(done["left_out"], scores["left_out"]);
    assert!(
        fs::read_to_string(html)
            .unwrap()
            .contains("9 of 11 pictures left out")
    );
}

#[test]
fn every_format_is_scored() {
    use image::ImageFormat::{Bmp, WebP};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pictures");
    let baker = folder(&root, "a baker");
    let picture = image::open(portrait("male-light-old")).unwrap();
    picture.save_with_format(baker.join("1.png"), WebP).unwrap();
    picture.save_with_format(baker.join("2"), WebP).unwrap();
    picture.save_with_format(baker.join("3.bmp"), Bmp).unwrap();
    fs::write(baker.join("4.gif"), frozen("palette.gif")).unwrap();
    fs::write(baker.join("5.TIFF"), frozen("palette.tif")).unwrap();
    let scores = scores(pa_score().arg(&root), dir.path());
    let rows = scores["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row["problem"].is_null()), "{rows:?}");
    assert!(
        rows[..3]
            .iter()
            .all(|row| row["axes"]["gender"][0] == "male")
    );
}

#[test]
fn nothing_left_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, good) = (dir.path().join("bad"), dir.path().join("good"));
    fs::write(folder(&bad, "a baker").join("1.avif"), frozen("x.avif")).unwrap();
    fs::write(folder(&bad, "a baker").join("2.png"), frozen("cut_0.5.png")).unwrap();
    fs::copy(
        portrait("male-dark-old"),
        folder(&good, "a baker").join("1.png"),
    )
    .unwrap();
    let out = dir.path().join("scores.json");
    let check = |command: &mut std::process::Command, parts: &[&str]| {
        let output = command.arg("--out").arg(&out).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!out.exists());
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    let all = [
        "2 of 2 pictures left out: 1 truncated PNG (",
        "1 unsupported format AVIF (",
        "hint: PNG, JPEG, WebP",
    ];
    check(pa_score().arg(&bad), &all);
    check(pa_score().arg(&bad).arg("--against").arg(&good), &all);
    let said = ["nothing is left to score of --against: 2 of 2"];
    check(pa_score().arg(&good).arg("--against").arg(&bad), &said);
    // Readable, but nobody is in it, and nothing else was asked for.
    let things = dir.path().join("things");
    fs::copy(portrait("house"), folder(&things, "a baker").join("1.png")).unwrap();
    let mut command = bare();
    command.arg(&things).arg("--chain").arg(bundle());
    check(
        &mut command,
        &["nothing is left to score: 1 of 1", "1 no person"],
    );
}

#[test]
fn rows_without_files_and_files_without_rows_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("set");
    dataset(
        &root,
        true,
        &[neutral("baker", &["male-light-old", "female-light-old"])],
    );
    let rows = fs::read_to_string(root.join("metadata.jsonl")).unwrap();
    let first = rows.lines().next().unwrap();
    let row = json!({"file_name": null, "prompt": "a photo of a baker"});
    fs::write(root.join("metadata.jsonl"), format!("{first}\n{row}\n")).unwrap();
    let output = pa_score().arg(&root).output().unwrap();
    let said = stderr(&output);
    let last = said.lines().last().unwrap();
    for part in [
        "2 of 3 pictures left out",
        "1 row without file",
        "1 in no row (",
    ] {
        assert!(last.contains(part), "{part}: {said}");
    }
}

#[test]
fn captions_stand_beside_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("10_people");
    fs::create_dir_all(&root).unwrap();
    for name in ["1.png", "2.png", "3.png"] {
        fs::copy(portrait("male-light-old"), root.join(name)).unwrap();
    }
    fs::write(root.join("1.txt"), "a photo of a baker\nmore\n").unwrap();
    fs::write(root.join("2.caption"), "a photo of a tailor").unwrap();
    let mut command = pa_score();
    command.arg(&root).arg("--json");
    let output = command.output().unwrap();
    let note = "1 of 3 pictures have no caption beside them";
    assert!(stderr(&output).contains(note));
    assert!(String::from_utf8_lossy(&output.stdout).contains(note));
    let all = scores(pa_score().arg(&root), dir.path());
    let prompts: Vec<&Value> = (0..3).map(|i| &all["prompts"][i]["prompt"]).collect();
    assert_eq!(
        prompts,
        ["a photo of a baker", "a photo of a tailor", "10_people"]
    );
    // A table rules.
    fs::write(root.join("metadata.csv"), "file_name,text\n1.png,a cook\n").unwrap();
    let all = scores(pa_score().arg(&root), dir.path());
    assert_eq!(all["prompts"][0]["prompt"], "a cook");
    assert_eq!(at(&all, "/left_out/scored/reasons/in_no_row/pictures"), 2.0);
    fs::remove_file(root.join("metadata.csv")).unwrap();
    fs::write(root.join("1.txt"), "").unwrap();
    let output = pa_score().arg(&root).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1.txt:1: no caption"));
}

/// Likeness is of the places whose pictures can be read on both sides, and shares a size.
#[test]
fn places_that_make_no_pair_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let sides = ["after", "before"].map(|side| dir.path().join(side));
    for side in &sides {
        let house = folder(side, "a house");
        for name in ["1.png", "2.png", "3.png"] {
            fs::copy(portrait("house"), house.join(name)).unwrap();
        }
    }
    fs::write(sides[1].join("a house/2.png"), "").unwrap();
    fs::copy(portrait("wide"), sides[0].join("a house/3.png")).unwrap();
    let mut command = pa_score();
    command.arg(&sides[0]).arg("--against").arg(&sides[1]);
    let all = scores(&mut command, dir.path());
    let alike = &all["similarity"]["other"];
    assert_eq!((at(alike, "/pairs"), at(alike, "/unpaired")), (2.0, 1.0));
    assert_eq!(
        alike["pairs_of"],
        json!({"clip_cosine": 2, "pixel_difference": 1})
    );
    assert_eq!(
        all["quality"][0]["pictures"],
        json!({"scored": 3, "against": 2})
    );
    let left = |side: &str| {
        at(
            &all,
            &format!("/left_out/{side}/reasons/no_person/pictures"),
        )
    };
    assert_eq!(left("against"), 2.0);
}
