//! Published files that are not what they should be, and names that stand for no metric.

use std::fs;
use std::path::Path;
use std::process::Command;

use popalign::judge::Error;
use popalign::judge::aesthetic::Aesthetic;
use popalign::judge::clip::{Source, Tower};
use popalign::judge::published::Places;
use serde_json::Value;

use crate::clip::weights;
use crate::process::{self, stderr};
use crate::seeded::{fixtures, frozen};

const L14: &str = "vit_large_patch14_clip_224.openai";

/// A folder with copies of some of the weights.
fn with(names: &[&str], folder: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let (from, to) = (weights(folder).join(name), dir.path().join(name));
        match from.is_dir() {
            true => {
                fs::create_dir_all(&to).unwrap();
                for entry in fs::read_dir(&from).unwrap() {
                    let path = entry.unwrap().path();
                    fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
                }
            }
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
    dir
}

/// A folder's JSON file with one text for another.
fn change(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn refused(tower: Tower, dir: &Path, captions: bool) -> String {
    let places = Places::new(Some(dir), false);
    let error = Source::find(tower, &places, captions, &[]).unwrap_err();
    match &error {
        Error::Published { path, .. } => assert!(path.starts_with(dir), "{error}"),
        Error::Json(_) | Error::Weights(_) | Error::Network { .. } => {}
        other => panic!("{other}"),
    }
    error.to_string()
}

#[test]
fn configurations_that_lie_are_refused_by_key() {
    let dir = with(&[L14, "bpe_simple_vocab_16e6.txt.gz"], "original");
    let config = dir.path().join(L14).join("open_clip_config.json");
    let whole = fs::read_to_string(&config).unwrap();
    for (from, to, expected) in [
        (
            "\"layers\": 2",
            "\"layers\": 3",
            "vision_cfg.layers is 3, but the weights' shapes say 2",
        ),
        ("\"embed_dim\": 96", "\"embed_dim\": 7", "embed_dim is 7"),
        (
            "\"head_width\": 64",
            "\"head_width\": 60",
            "a multiple of its heads' 60",
        ),
        (
            "\"image_size\": 56",
            "\"image_size\": 70",
            "vision_cfg.image_size is 70",
        ),
        (
            "\"bicubic\"",
            "\"random\"",
            "expected interpolation bicubic",
        ),
        (
            "\"quick_gelu\": true",
            "\"custom_text\": true",
            "not a configuration of open_clip that is supported",
        ),
    ] {
        change(&config, from, to);
        let text = refused(Tower::ClipL14, dir.path(), false);
        assert!(text.contains(expected), "{text}");
        fs::write(&config, &whole).unwrap();
    }
    fs::remove_file(dir.path().join(L14).join("open_clip_model.safetensors")).unwrap();
    let text = refused(Tower::ClipL14, dir.path(), false);
    assert!(
        text.contains("expected open_clip_model.safetensors or"),
        "{text}"
    );
}

#[test]
fn captions_need_a_tokenizer_of_the_towers_vocabulary() {
    let dir = with(&["ViT-B-32.pt"], "original");
    let places = Places::new(Some(dir.path()), false);
    assert!(
        Source::find(Tower::ClipB32, &places, false, &[])
            .unwrap()
            .is_some()
    );
    let text = refused(Tower::ClipB32, dir.path(), true);
    assert!(text.contains("no tokenizer of its"), "{text}");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/tokenizer");
    let error = Source::find(Tower::ClipB32, &places, true, &[demo]).unwrap_err();
    assert!(
        error.to_string().contains("models/demo/tokenizer has 737"),
        "{error}"
    );
    fs::write(dir.path().join("bpe_simple_vocab_16e6.txt.gz"), "no gzip").unwrap();
    let error = Source::find(Tower::ClipB32, &places, true, &[]).unwrap_err();
    assert!(error.to_string().contains("not a gzipped text"), "{error}");
}

#[test]
fn files_that_are_something_else_say_so() {
    let dir = with(&["sac+logos+ava1-l14-linearMSE.pth"], "original");
    let head = dir.path().join("sac+logos+ava1-l14-linearMSE.pth");
    fs::copy(&head, dir.path().join("ViT-B-32.pt")).unwrap();
    let text = refused(Tower::ClipB32, dir.path(), false);
    assert!(text.contains("it is no CLIP that is known"), "{text}");
    let clip = weights("original").join("ViT-B-32.pt");
    let text = Aesthetic::open(&clip).unwrap_err().to_string();
    assert!(text.contains("missing tensor `layers.7.weight`"), "{text}");
    Aesthetic::open(&head).unwrap().check(96).unwrap();
    let text = Aesthetic::open(&head)
        .unwrap()
        .check(768)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("embeddings of 96 numbers, but the CLIP gives 768"),
        "{text}"
    );
    fs::write(dir.path().join("ViT-L-14.pt"), "PK\x03\x04 and no more").unwrap();
    let text = refused(Tower::ClipL14, dir.path(), false);
    assert!(text.contains("zip: it has no end record"), "{text}");
}

#[test]
fn a_transformers_configuration_is_held_to_the_weights_when_it_is_built() {
    let name = "PickScore_v1";
    let dir = with(&[name], "transformers");
    change(
        &dir.path().join(name).join("config.json"),
        "\"hidden_size\": 160",
        "\"hidden_size\": 200",
    );
    let places = Places::new(Some(dir.path()), false);
    let source = Source::find(Tower::PickScore, &places, false, &[])
        .unwrap()
        .unwrap();
    let options = popalign::runtime::SessionOptions::default();
    let runtime = popalign::runtime::Runtime::load().unwrap();
    let error = popalign::judge::clip::Clip::build(&runtime, source, &options).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
}

/// `pa-score` of the judges' pictures, each in the folder of a caption.
fn pa_score(dir: &Path) -> Command {
    let expected = frozen("quality.json");
    let caption = expected["captions"][0].as_str().unwrap();
    let folder = dir.join("pictures").join(caption);
    fs::create_dir_all(&folder).unwrap();
    for name in expected["pictures"].as_array().unwrap() {
        let name = format!("{}.jpg", name.as_str().unwrap());
        fs::copy(fixtures().join("pictures").join(&name), folder.join(&name)).unwrap();
    }
    let mut command = process::pa_score();
    let chain = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/faces/chain.toml");
    command.arg(dir.join("pictures")).arg("--chain").arg(chain);
    command.args(["--ep", "cpu", "--bootstrap", "0", "--threads", "1"]);
    command
}

#[test]
fn every_published_score_is_a_column_of_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("scores.json");
    let mut command = pa_score(dir.path());
    let asked = "clip_b32,clip_l14,aesthetic,hps_v2.0,hps_v2.1";
    command.args(["--metrics", asked, "--out"]).arg(&out);
    let output = command
        .arg("--weights")
        .arg(weights("original"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let scores: Value = serde_json::from_str(&fs::read_to_string(out).unwrap()).unwrap();
    let expected = frozen("quality.json");
    let keys: Vec<&str> = asked.split(',').collect();
    assert_eq!(scores["quality"].as_array().unwrap().len(), keys.len());
    for (key, quality) in keys.iter().zip(scores["quality"].as_array().unwrap()) {
        assert_eq!(quality["metric"], *key);
        let rows = expected["scores"][key].as_array().unwrap();
        let first = |row: &Value| row.as_f64().or_else(|| row[0].as_f64()).unwrap();
        let theirs = rows.iter().map(first).sum::<f64>() / rows.len() as f64;
        let ours = quality["all"]["scored"]["value"].as_f64().unwrap();
        assert!((ours - theirs).abs() < 1e-3, "{key}: {ours} {theirs}");
        let identity = &scores["config"]["weights_sha256"];
        let tower = if *key == "aesthetic" { "clip_l14" } else { key };
        assert!(identity[tower].is_object(), "{identity}");
    }
}

#[test]
fn names_without_a_version_and_weights_that_are_not_there_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    for (metrics, expected) in [
        ("hps", "ask for hps_v2.0 or hps_v2.1"),
        (
            "hps_v2.1",
            "needs --weights DIR with HPS_v2.1_compressed.pt",
        ),
        ("aesthetic", "needs --weights DIR with ViT-L-14.pt"),
        ("pick", "needs --weights DIR with PickScore_v1"),
    ] {
        let mut command = pa_score(dir.path());
        command
            .args(["--metrics", metrics, "--weights"])
            .arg(&empty);
        let output = command.env("HF_HUB_CACHE", &empty).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
