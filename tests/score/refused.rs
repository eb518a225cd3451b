//! What `pa-score` refuses: with the right exit code, naming the thing, writing nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use popalign::base::Stop;
use popalign::runtime::{Ep, SessionOptions};
use popalign::score::{self, Error, Event, Request};
use serde_json::json;

use crate::process::stderr;
use crate::world::{bare, bundle, dataset, neutral, pa_score, portrait};

/// Runs a command that must fail and returns what it said.
fn refused(command: &mut Command, code: i32, dir: &Path) -> String {
    let out = dir.join("scores.json");
    let html = dir.join("report.html");
    command.arg("--out").arg(&out).arg("--html").arg(&html);
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!out.exists() && !html.exists(), "{text}");
    text
}

#[test]
fn folders_that_hold_nothing_to_score() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("empty/sub")).unwrap();
    fs::write(path("empty/notes.txt"), "x").unwrap();
    let text = refused(pa_score().arg(path("empty")), 1, dir.path());
    assert!(text.contains("empty holds no pictures"), "{text}");
    assert!(text.contains("hint: PNG, JPEG, WebP"), "{text}");
    let text = refused(pa_score().arg(path("nowhere")), 1, dir.path());
    assert!(text.contains("there is no folder"), "{text}");

    let kept_none = path("none");
    dataset(&kept_none, true, &[neutral("baker", &["house"])]);
    let row = json!({"file_name": null, "prompt": "a photo of a baker"});
    fs::write(kept_none.join("metadata.jsonl"), format!("{row}\n")).unwrap();
    let text = refused(pa_score().arg(&kept_none), 1, dir.path());
    assert!(text.contains("its rows name no files"), "{text}");
    assert!(text.contains("--format none"), "{text}");
    let manifest = json!({"format": "popalign-dataset-1", "config": {}});
    fs::write(kept_none.join("manifest.json"), manifest.to_string()).unwrap();
    let text = refused(pa_score().arg(&kept_none), 1, dir.path());
    assert!(
        text.contains("is unfinished") && text.contains("hint:"),
        "{text}"
    );
    fs::remove_file(kept_none.join("manifest.json")).unwrap();
    fs::write(kept_none.join("metadata.jsonl"), "{\"file_name\": 7}\n").unwrap();
    let text = refused(pa_score().arg(&kept_none), 1, dir.path());
    assert!(text.contains("metadata.jsonl:1: not a row"), "{text}");
}

#[test]
fn tables_with_an_open_quote() {
    let dir = tempfile::tempdir().unwrap();
    let root = one_picture(dir.path());
    let rows =
        "file_name,text\na baker/1.png,\"a baker\na baker/2.png,a cook\na baker/3.png,a chef\n";
    fs::write(root.join("metadata.csv"), rows).unwrap();
    let text = refused(pa_score().arg(&root), 1, dir.path());
    assert!(
        text.contains("metadata.csv:2: the quote that opens here"),
        "{text}"
    );
}

fn one_picture(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("pictures");
    fs::create_dir_all(root.join("a baker")).unwrap();
    fs::copy(portrait("male-light-old"), root.join("a baker/1.png")).unwrap();
    root
}

#[test]
fn metrics_that_cannot_be_computed() {
    let dir = tempfile::tempdir().unwrap();
    let root = one_picture(dir.path());
    let text = |metrics: &str| {
        let mut command = pa_score();
        command.arg(&root).args(["--metrics", metrics]);
        refused(&mut command, 1, dir.path())
    };
    let unknown = text("gender,beauty");
    assert!(
        unknown.contains("no metric `beauty`; there are gender, skin, age, gender+skin"),
        "{unknown}"
    );
    assert!(text("hps").contains("ask for hps_v2.0 or hps_v2.1"));
    assert!(text("similarity").contains("needs --against DIR"));
    let mut command = bare();
    command
        .arg(&root)
        .arg("--chain")
        .arg(bundle())
        .args(["--metrics", "clip"]);
    let text = refused(&mut command, 1, dir.path());
    assert!(
        text.contains("needs --model BUNDLE with the parts clip_text"),
        "{text}"
    );
}

#[test]
fn sides_that_do_not_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let root = one_picture(dir.path());
    let mut command = pa_score();
    command.args([&root, &root]).arg("--against").arg(&root);
    let text = refused(&mut command, 2, dir.path());
    assert!(text.contains("--against names 1 folders for 2"), "{text}");
    let other = dir.path().join("other/a tailor");
    fs::create_dir_all(&other).unwrap();
    fs::copy(portrait("house"), other.join("1.png")).unwrap();
    let mut command = pa_score();
    command
        .arg(&root)
        .arg("--against")
        .arg(other.parent().unwrap());
    let text = refused(&mut command, 1, dir.path());
    assert!(text.contains("is among those of --against"), "{text}");
    let mut command = pa_score();
    command.arg(&root).args(["--human-eval", "3"]);
    refused(&mut command, 2, dir.path());
    for (option, expected) in [
        ("--bootstrap", "a number of resamples from 0 to 1000000"),
        ("--human-eval", "a number of pairs from 1 to 100000"),
        ("--threads", "a number from 1 to 1024"),
    ] {
        // Without the world's own options: clap takes each once.
        let mut command = crate::process::pa_score();
        command.arg(&root).args([option, "4294967295"]);
        let text = refused(&mut command, 2, dir.path());
        assert!(text.contains(expected), "{text}");
    }
}

/// Interrupted, it ends at once with the code of that, and leaves nothing.
#[test]
fn an_interrupted_run_writes_nothing() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let root = one_picture(dir.path());
    for i in 0..400 {
        let copy = root.join(format!("a baker/copy-{i}.png"));
        fs::hard_link(root.join("a baker/1.png"), copy).unwrap();
    }
    let out = dir.path().join("scores.json");
    let mut run = pa_score()
        .arg(&root)
        .arg("--out")
        .arg(&out)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("401 pictures of 1 prompts")));
    let pid = run.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    assert!(lines.any(|line| line.unwrap().contains("nothing is left half-written")));
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(!out.exists());
}

/// The token is looked at after the pictures that were begun, not before.
#[test]
fn a_token_that_was_asked_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let request = Request {
        dirs: vec![one_picture(dir.path())],
        against: Vec::new(),
        model: Some(bundle().to_path_buf()),
        weights: None,
        axes: None,
        chain: None,
        target: None,
        metrics: None,
        training: None,
        bootstrap: 0,
        seed: 0,
        session: SessionOptions::new(Ep::Cpu, 0, 2),
    };
    let stop = Stop::new();
    stop.ask();
    let mut looked = 0;
    let ended = score::run(&request, &stop, &mut |event| match event {
        Event::Looked(count) => looked += count,
        Event::Assessing => panic!("it went on"),
        Event::Start { .. } | Event::Note(_) => {}
    });
    assert!(matches!(ended, Err(Error::Interrupted)));
    assert_eq!(looked, 1);
}

#[test]
fn files_that_say_what_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let root = one_picture(dir.path());
    let file = dir.path().join("file");
    let text = |option: &str, contents: &str| {
        fs::write(&file, contents).unwrap();
        let mut command = pa_score();
        command.arg(&root).arg(option).arg(&file);
        refused(&mut command, 1, dir.path())
    };
    let target = text("--target", "race = { white = 1.0 }");
    assert!(
        target.contains("there is no axis `race`; there are gender, skin, age"),
        "{target}"
    );
    let axes = text(
        "--axes",
        "[template]\nneutral = \"{prompt}\"\nspecific = \"{race} {prompt}\"\n\
         [[axis]]\nname = \"race\"\nvalues = [\"a\", \"b\"]\n",
    );
    let chain = bundle().join("chain.toml");
    let [file, chain] = [&file, &chain].map(|path| path.display().to_string());
    let expected = format!(
        "{file}: axis `race`: the chain {chain} has no `race`; it measures age, gender, skin"
    );
    assert!(axes.contains(&expected), "{axes}");
    assert!(
        axes.contains("hint: an axis of the axes file says"),
        "{axes}"
    );
    let chain = text("--chain", "name = \"x\"\n[[model]]\n");
    assert!(chain.contains("not a chain manifest"), "{chain}");
    let ratings = text("--human-ratings", "task,rater\n");
    assert!(ratings.contains("human-eval"), "{ratings}");
    let mut command = pa_score();
    command.arg(&root).arg("--training").arg(dir.path());
    let training = refused(&mut command, 1, dir.path());
    assert!(training.contains("log.jsonl"), "{training}");
    let mut command = bare();
    command.arg(&root).args(["--chain", "no-such-chain"]);
    let chain = refused(&mut command, 1, dir.path());
    assert!(
        chain.contains("no classifier chain `no-such-chain`"),
        "{chain}"
    );
    let mut command = bare();
    command.arg(&root).arg("--model").arg(dir.path());
    let model = refused(&mut command, 1, dir.path());
    assert!(
        model.contains("it has no bundle.json") && model.contains("hint:"),
        "{model}"
    );
}
