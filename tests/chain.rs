//! Classifier chains without a detector: the demo world's, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use popalign::judge::chain::{Chain, Error, Verdict};
use popalign::runtime::{Ep, Runtime, SessionOptions};

#[path = "process/mod.rs"]
mod process;

/// A bundle with nothing but the demo model's classifier and manifest.
fn bundle(dir: &Path) -> PathBuf {
    let out = dir.join("bundle");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let status = process::pa_export()
        .args([demo.as_os_str(), "-o".as_ref(), out.as_os_str()])
        .args(["--parts", "classifier"])
        .status();
    assert!(status.unwrap().success());
    out.join("chain.toml")
}

fn open(manifest: &Path, threads: usize) -> Result<Chain, Error> {
    let runtime = Runtime::load().unwrap();
    Chain::open(
        &runtime,
        manifest,
        &SessionOptions::new(Ep::Cpu, 0, threads),
    )
}

/// Pictures that differ, of several sizes.
fn pictures(count: u32) -> Vec<RgbImage> {
    let one = |i: u32| {
        RgbImage::from_fn(64 + 7 * (i % 3), 64 + 5 * (i % 2), |x, y| {
            Rgb([
                (x * 3 + i * 40) as u8,
                (y * 4 + i) as u8,
                ((x + y) * i) as u8,
            ])
        })
    };
    (0..count).map(one).collect()
}

#[test]
fn a_picture_is_judged_alone_whatever_the_batch_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path());
    let pictures = pictures(9);
    let mut chain = open(&manifest, 3).unwrap();
    let together = chain.classify(&pictures).unwrap();
    let mut alone = open(&manifest, 1).unwrap();
    for (picture, verdict) in pictures.iter().zip(&together) {
        let single = alone.classify(std::slice::from_ref(picture)).unwrap();
        assert_eq!(&single, std::slice::from_ref(verdict));
    }
    assert_eq!(chain.classify(&[]).unwrap(), []);
    assert_eq!(chain.manifest().name, "demo");
    assert_eq!(chain.sha256(), alone.sha256());
    for verdict in together {
        if let Verdict::Kept(attributes) = verdict {
            for values in attributes.axes.values() {
                let sum: f32 = values.iter().map(|v| v.1).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{values:?}");
            }
        }
    }
}

#[test]
fn the_identity_covers_weights_beside_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path());
    let before = open(&manifest, 1).unwrap().sha256().to_owned();
    let weights = dir.path().join("bundle/classifier/model.safetensors");
    // The file is a link to the checkpoint's: never write through it.
    let mut bytes = std::fs::read(&weights).unwrap();
    std::fs::remove_file(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(open(&manifest, 1).unwrap().sha256(), before);
}

#[test]
fn what_the_model_is_not_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = bundle(dir.path());
    let text = std::fs::read_to_string(&manifest).unwrap();
    for (from, to, expected) in [
        (
            "input = \"pixel_values\"",
            "input = \"pixels\"",
            "input of `classifier/model.onnx`: no input `pixels`, it takes `pixel_values`",
        ),
        (
            "output = \"skin\"",
            "output = \"hair\"",
            "output of `classifier/model.onnx`: no output `hair`, it has `gender`",
        ),
        (
            "[\"light\", \"medium\", \"dark\"]",
            "[\"light\", \"dark\"]",
            "`skin` is [?, 3], expected 2 units for its 2 labels",
        ),
        (
            "classifier/model.onnx",
            "classifier/other.onnx",
            "other.onnx: there is no such file",
        ),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        std::fs::write(&manifest, changed).unwrap();
        let error = open(&manifest, 1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
