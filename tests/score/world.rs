//! Populations to score, made of a few portraits with known identities, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, stderr};

/// The portraits that `scripts/oracle/score.py` drew: `male-light-young` …, `ambiguous`, `house`.
pub(crate) fn portrait(name: &str) -> PathBuf {
    fixtures().join("pictures").join(format!("{name}.png"))
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score")
}

/// A JSON fixture.
pub(crate) fn frozen(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixtures().join(name)).unwrap()).unwrap()
}

/// The demo model's classifier and CLIP, exported once.
pub(crate) fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUNDLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        let output = process::pa_export()
            .arg(demo)
            .arg("-o")
            .arg(&path)
            .args(["--parts", "classifier,clip_text,clip_vision"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (dir, path)
    });
    path
}

/// A caption and the portraits drawn for it.
pub(crate) struct Drawn {
    pub(crate) prompt: String,
    pub(crate) axes: Value,
    pub(crate) portraits: Vec<String>,
}

/// Pictures of a neutral caption.
pub(crate) fn neutral(subject: &str, portraits: &[&str]) -> Drawn {
    Drawn {
        prompt: format!("a photo of a {subject}"),
        axes: json!({}),
        portraits: portraits.iter().map(|&p| p.to_owned()).collect(),
    }
}

/// Pictures of a caption that names an identity such as `female-dark-old`.
pub(crate) fn specific(subject: &str, identity: &str, portraits: &[&str]) -> Drawn {
    let [gender, skin, age] = parts(identity);
    Drawn {
        prompt: format!("a photo of a {age} {skin}-skinned {gender} {subject}"),
        axes: json!({"gender": gender, "skin": skin, "age": age}),
        ..neutral(subject, portraits)
    }
}

fn parts(identity: &str) -> [&str; 3] {
    let parts: Vec<&str> = identity.split('-').collect();
    parts.try_into().unwrap()
}

/// Writes a data set as `pa-datagen` does, drawn with axes (of people) or without.
pub(crate) fn dataset(dir: &Path, with_axes: bool, drawn: &[Drawn]) {
    fs::create_dir_all(dir.join("images")).unwrap();
    let mut rows = String::new();
    for (
        p,
        Drawn {
            prompt,
            axes,
            portraits,
        },
    ) in drawn.iter().enumerate()
    {
        let named = axes.as_object().is_some_and(|a| !a.is_empty());
        let kind = if named { "specific" } else { "neutral" };
        let neutral = prompt.split(' ').next_back().unwrap();
        for (id, name) in portraits.iter().enumerate() {
            let file = format!("images/{p}-{id}.png");
            fs::copy(portrait(name), dir.join(&file)).unwrap();
            let row = json!({"file_name": file, "prompt": prompt,
                "neutral_prompt": format!("a photo of a {neutral}"), "kind": kind, "axes": axes,
                "seed": 2, "image_id": id});
            rows += &format!("{row}\n");
        }
    }
    fs::write(dir.join("metadata.jsonl"), rows).unwrap();
    let axes = with_axes.then_some("sha256 of axes.toml");
    let manifest = json!({"format": "popalign-dataset-1", "config": {"axes": axes},
        "versions": {}, "outcome": {"kept": 0, "dropped": {}, "sha256": {}}});
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

/// `pa-score` with the demo bundle, on the CPU.
pub(crate) fn pa_score() -> Command {
    let mut command = bare();
    command.arg("--model").arg(bundle());
    command
}

/// `pa-score` without a bundle.
pub(crate) fn bare() -> Command {
    let mut command = process::pa_score();
    command.args(["--ep", "cpu", "--bootstrap", "200"]);
    command
}

/// Runs a command that must succeed and reads the scores it wrote.
pub(crate) fn scores(command: &mut Command, dir: &Path) -> Value {
    let out = dir.join("scores.json");
    let output = command.arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap()
}

/// All twelve identities.
pub(crate) fn everybody() -> Vec<&'static str> {
    vec![
        "male-light-young",
        "male-light-old",
        "male-medium-young",
        "male-medium-old",
        "male-dark-young",
        "male-dark-old",
        "female-light-young",
        "female-light-old",
        "female-medium-young",
        "female-medium-old",
        "female-dark-young",
        "female-dark-old",
    ]
}

/// A biased population before and a fair one after, people and things.
pub(crate) fn before_and_after(dir: &Path) {
    let men = vec!["male-light-young"; 12];
    let fair = everybody();
    let named = |asked: &[&str], shown: &[&str]| -> Vec<Drawn> {
        let pairs = asked.iter().zip(shown);
        pairs.map(|(a, s)| specific("baker", a, &[s])).collect()
    };
    let mut before = vec![neutral("baker", &men), neutral("tailor", &men)];
    before.extend(named(&fair, &fair));
    let mut after = vec![neutral("baker", &fair), neutral("tailor", &fair)];
    // One of the twelve is not obeyed: a man for a woman, else as asked.
    let mut shown = fair.clone();
    shown[6] = "male-light-young";
    after.extend(named(&fair, &shown));
    dataset(&dir.join("before/people"), true, &before);
    dataset(&dir.join("after/people"), true, &after);
    for side in ["before", "after"] {
        let house = neutral("house", &["house", "house"]);
        dataset(&dir.join(side).join("things"), false, &[house]);
    }
}

/// `pa-score` of what [`before_and_after`] made.
pub(crate) fn compare(dir: &Path) -> Command {
    let mut command = pa_score();
    command
        .args([dir.join("after/people"), dir.join("after/things")])
        .arg("--against")
        .args([dir.join("before/people"), dir.join("before/things")]);
    command
}

/// A number anywhere in a JSON value.
pub(crate) fn at(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no number at {pointer}"))
}
