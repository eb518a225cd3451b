//! Pictures that are not photographs of one person, and manifests that don't fit their models.

use std::collections::BTreeMap;

use image::{Rgb, RgbImage};
use popalign::judge::chain;
use popalign::judge::chain::{Chain, DropReason, Verdict};
use popalign::prompts::Axes;
use popalign::runtime::{Ep, Runtime, SessionOptions};

use crate::support::{chain, kept, open, recipes, root};

#[test]
fn a_mixed_folder_is_counted_by_reason() {
    let pictures = recipes();
    let mut counts = BTreeMap::new();
    let all: Vec<RgbImage> = pictures.into_values().collect();
    for verdict in chain(&[], 2).classify(&all).unwrap() {
        let reason = match verdict {
            Verdict::Kept(_) => "kept".to_owned(),
            Verdict::Dropped(reason) => reason.to_string(),
        };
        *counts.entry(reason).or_insert(0) += 1;
    }
    let expected = [("kept".to_owned(), 7), ("no_face".to_owned(), 3)];
    assert_eq!(counts, BTreeMap::from(expected));
}

#[test]
fn several_faces_are_chosen_from_as_the_manifest_says() {
    let crowd = recipes().remove("crowd").unwrap();
    let read = |several: &str| {
        let edit = format!("several = \"{several}\"");
        let mut chain = chain(&[("several = \"largest\"", &edit)], 1);
        chain.read(std::slice::from_ref(&crowd)).unwrap().remove(0)
    };
    let first = read("first");
    assert_eq!(first.chosen, Some(0));
    let largest = read("largest");
    assert_eq!(largest.faces, first.faces);
    let chosen = &largest.faces[largest.chosen.unwrap()];
    let area = |f: &chain::Face| f.size()[0] * f.size()[1];
    assert!(largest.faces.iter().all(|f| area(f) <= area(chosen)));
    // The last and largest was pasted at the bottom right.
    assert!(chosen.bounds[0] > 1024.0 && chosen.bounds[1] > 768.0);
    let dropped = read("drop");
    assert_eq!(dropped.faces, first.faces);
    assert_eq!(dropped.chosen, None);
    assert_eq!(dropped.verdict, Verdict::Dropped(DropReason::SeveralFaces));
    // Faces of 60 to 120 pixels, some of which no longer count.
    let mut strict = chain(&[("# min_size = 24", "min_size = 90")], 1);
    let fewer = strict
        .read(std::slice::from_ref(&crowd))
        .unwrap()
        .remove(0)
        .faces;
    assert!(
        !fewer.is_empty() && fewer.len() < first.faces.len(),
        "{}",
        fewer.len()
    );
    assert!(fewer.iter().all(|f| f.size()[0].max(f.size()[1]) >= 90.0));
}

#[test]
fn a_face_is_judged_alone_whatever_the_batch_and_threads() {
    let pictures = recipes();
    let batch: Vec<RgbImage> = ["astronaut", "sky", "small", "cut", "outside"]
        .iter()
        .map(|name| pictures[name].clone())
        .collect();
    let together = chain(&[], 3).read(&batch).unwrap();
    let mut alone = chain(&[], 1);
    for (picture, reading) in batch.iter().zip(together) {
        let single = alone.read(std::slice::from_ref(picture)).unwrap();
        assert_eq!(single, [reading]);
    }
}

#[test]
fn extreme_shapes_are_looked_at() {
    let blue = Rgb([90, 120, 150]);
    let shapes = [(1, 1), (1, 40_000), (40_000, 1), (2, 3000), (33, 31)];
    let pictures: Vec<RgbImage> = shapes
        .iter()
        .map(|&(w, h)| RgbImage::from_pixel(w, h, blue))
        .collect();
    let mut fit = chain(&[], 2);
    for verdict in fit.classify(&pictures).unwrap() {
        assert_eq!(verdict, Verdict::Dropped(DropReason::NoFace));
    }
    // A square about 40,000 pixels costs no more than the picture has.
    let verdict = fit.classify_box(&pictures[1], [0.0, 0.0, 1.0, 40_000.0]);
    kept(&verdict.unwrap());
    let mut none = chain(&[("resize = \"fit\"", "resize = \"none\"")], 1);
    for verdict in none.classify(&pictures[..3]).unwrap() {
        assert_eq!(verdict, Verdict::Dropped(DropReason::NoFace));
    }
}

#[test]
fn what_ships_fits_together() {
    let folder = root().join("models/faces");
    let manifest = chain::locate("faces").unwrap();
    assert!(manifest.ends_with("models/faces/chain.toml"));
    let chain = open(&folder.join("chain.toml"), 1);
    let measured = chain.manifest().axes();
    let axes = Axes::load(&folder.join("axes.toml")).unwrap();
    for axis in axes.axes() {
        let classifier = axis.classifier.as_ref().unwrap();
        let labels = &measured[&classifier.output];
        assert!(
            labels
                .iter()
                .all(|label| classifier.labels.contains_key(label))
        );
    }
    assert_eq!(axes.neutral("doctor"), "a photo of a doctor");
    assert_eq!(axes.specific("doctor").len(), 5 * 2 + 2);
}

#[test]
fn a_detector_that_is_none_is_refused() {
    let folder = root().join("models/faces");
    let text = std::fs::read_to_string(folder.join("chain.toml")).unwrap();
    let runtime = Runtime::load().unwrap();
    for (from, to, expected) in [
        (
            "face_detection_yunet_2023mar.onnx",
            "gear.onnx",
            "side of `gear.onnx`: `input_1` is [?, 3, 198, 198], expected [1, 3, 640, 640]",
        ),
        (
            "side = 640",
            "side = 600",
            "detector.side: expected a multiple of 32",
        ),
        (
            "score = 0.6",
            "score = 6",
            "detector.score and detector.nms",
        ),
        (
            "several = \"largest\"",
            "several = \"all\"",
            "not a chain manifest",
        ),
        (
            "size = [224, 224]",
            "size = [225, 224]",
            "size of `faceres.onnx`: `input_1` is",
        ),
        (
            "to = 100",
            "to = 101",
            "expected at least 101 units for its ranges",
        ),
        ("from = 40", "from = 39", "no unit in two ranges"),
        ("\"indian\", ", "", "expected 4 units for its 4 labels"),
        ("scale = 1.0", "scale = 100.0", "crop.scale"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let manifest = dir.path().join("chain.toml");
        std::fs::write(&manifest, changed).unwrap();
        let opened = Chain::open(&runtime, &manifest, &SessionOptions::new(Ep::Cpu, 0, 1));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("chain.toml"), "{error}");
    }
}
