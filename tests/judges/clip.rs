//! CLIPs, the aesthetic predictor, HPS and PickScore.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::RgbImage;
use popalign::judge::aesthetic::{self, Aesthetic};
use popalign::judge::clip::{CONVENTION, Clip, Source, Tower, cosine};
use popalign::judge::published::Places;
use popalign::picture::decode;
use popalign::runtime::{Ep, Runtime, SessionOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::seeded::{fill, fixtures, frozen, gunzip, unpack};

/// Single-precision networks in another order of sums: the largest difference, as a share of the largest
/// score. The smallest tower here stands for the largest: errors grow with the root of the width.
const NETWORK: f64 = 1e-4;
/// Half a step of a byte in what a network is given, in its units (a deviation is 0.26 to 0.28 of the range).
const PREPARED: f64 = 0.5 / 255.0 / 0.26;

/// The seeds of `quality.py`, by what a file's path contains.
const SEEDS: &[(&str, u64)] = &[
    ("vit_large", 1),
    ("open_clip_pytorch_model", 1),
    ("linearMSE", 7),
    ("HPS_v2_", 3),
    ("HPS_v2.1", 4),
    ("PickScore", 5),
    ("CLIP-ViT-H-14", 2),
];

/// Folders of weights: of OpenAI's and open_clip's files with HPS', and of transformers'.
pub(crate) fn weights(which: &str) -> &'static Path {
    static ALL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, dir) = ALL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let from = fixtures().join("weights");
        unpack(&from.join("openai"), &dir.path().join("original"), SEEDS);
        unpack(&from.join("hps"), &dir.path().join("original"), SEEDS);
        let transformers = dir.path().join("transformers");
        unpack(&from.join("transformers"), &transformers, SEEDS);
        let path = dir.path().to_path_buf();
        (dir, path)
    });
    static LEAKED: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let all = LEAKED.get_or_init(|| ["original", "transformers"].map(|name| dir.join(name)));
    &all[usize::from(which == "transformers")]
}

fn pictures(expected: &Value) -> Vec<RgbImage> {
    let names: Vec<String> = serde_json::from_value(expected["pictures"].clone()).unwrap();
    let read = |name: &String| {
        let path = fixtures().join("pictures").join(format!("{name}.jpg"));
        decode(&fs::read(path).unwrap()).unwrap()
    };
    names.iter().map(read).collect()
}

fn open(tower: Tower, folder: &str) -> Clip {
    let places = Places::new(Some(weights(folder)), false);
    let source = Source::find(tower, &places, true, &[]).unwrap().unwrap();
    let options = SessionOptions::new(Ep::Cpu, 0, 1);
    Clip::build(&Runtime::load().unwrap(), source, &options).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().unwrap().iter();
    items.map(|v| v.as_f64().unwrap()).collect()
}

/// The largest difference as a share of the largest number.
fn error(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0f64, |most, x| most.max(x.abs()));
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max) / largest
}

/// Every picture's agreement with every caption.
fn agreement(clip: &mut Clip, tower: Tower, expected: &Value) -> Vec<f64> {
    let pictures = pictures(expected);
    let captions: Vec<String> = serde_json::from_value(expected["captions"].clone()).unwrap();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let seen = clip.pictures(&pictures.iter().collect::<Vec<_>>()).unwrap();
    let said = clip.captions(&captions).unwrap();
    let scale = match tower {
        Tower::PickScore => clip.scale().unwrap(),
        _ => CONVENTION,
    };
    seen.iter()
        .flat_map(|picture| said.iter().map(move |text| scale * cosine(picture, text)))
        .collect()
}

fn compare(key: &str, ours: &[f64], theirs: &Value) {
    let rows = theirs.as_array().unwrap().iter();
    let theirs: Vec<f64> = rows.flat_map(numbers).collect();
    let found = error(ours, &theirs);
    println!("{key}: {found:e} {:?}", &theirs[..4]);
    assert!(found <= NETWORK, "{key} is off by {found:e}");
}

/// What a tower is given of pictures, and their agreement.
fn check(tower: Tower, folder: &str, key: &str) {
    let expected = frozen("quality.json");
    let mut clip = open(tower, folder);
    let pictures = pictures(&expected);
    let names = expected["pictures"].as_array().unwrap();
    for (name, theirs) in expected["prepared"][key].as_object().unwrap() {
        let index = names.iter().position(|n| n == name).unwrap();
        let prepared = clip.prepared(&pictures[index]).unwrap();
        let side = (prepared.len() / 3).isqrt();
        let rows =
            (0..3).flat_map(|c| (5..side).step_by(9).map(move |y| (c * side + y) * side + 3));
        let ours: Vec<f64> = rows.map(|at| prepared[at].into()).collect();
        let differences = ours.iter().zip(numbers(theirs));
        let most = differences.fold(0f64, |most, (a, b)| most.max((a - b).abs()));
        assert!(most <= PREPARED, "{key} {name}: {most}");
    }
    let ours = agreement(&mut clip, tower, &expected);
    compare(key, &ours, &expected["scores"][key]);
}

#[test]
fn openais_own_file_says_what_openais_code_does() {
    check(Tower::ClipB32, "original", "clip_b32");
}

#[test]
fn a_tower_of_the_true_size_says_what_openais_code_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ViT-B-32.pt");
    gunzip(&fixtures().join("full/ViT-B-32.pt.gz.gz"), &file);
    gunzip(&file, &file);
    fill(&file, 0);
    let places = Places::new(Some(dir.path()), false);
    let tokenizer = weights("original").to_path_buf();
    let source = Source::find(Tower::ClipB32, &places, true, &[tokenizer]);
    let options = SessionOptions::new(Ep::Cpu, 0, 2);
    let runtime = Runtime::load().unwrap();
    let mut clip = Clip::build(&runtime, source.unwrap().unwrap(), &options).unwrap();
    let ours = agreement(&mut clip, Tower::ClipB32, &frozen("quality.json"));
    compare("full", &ours, &frozen("full.json")["clip_b32"]);
}

#[test]
fn open_clips_folders_say_what_open_clip_does() {
    check(Tower::ClipL14, "original", "clip_l14");
    check(Tower::ClipH14, "original", "clip_h14");
}

#[test]
fn transformers_folders_say_what_transformers_does() {
    check(Tower::ClipH14, "transformers", "clip_h14 of transformers");
    check(Tower::PickScore, "transformers", "pick");
}

#[test]
fn both_versions_of_hps_say_what_their_code_does() {
    check(Tower::HpsV20, "original", "hps_v2.0");
    check(Tower::HpsV21, "original", "hps_v2.1");
}

#[test]
fn the_folded_predictor_is_its_five_layers() {
    let expected = frozen("quality.json");
    let places = Places::new(Some(weights("original")), false);
    let head = Aesthetic::open(&places.find(&aesthetic::PUBLISHED).unwrap()).unwrap();
    let mut clip = open(Tower::ClipL14, "original");
    head.check(clip.width()).unwrap();
    let pictures = pictures(&expected);
    let seen = clip.pictures(&pictures.iter().collect::<Vec<_>>()).unwrap();
    let ours: Vec<f64> = seen.iter().map(|picture| head.of(picture)).collect();
    let found = error(&ours, &numbers(&expected["scores"]["aesthetic"]));
    assert!(found <= NETWORK, "off by {found:e}");
}
