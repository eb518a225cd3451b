//! Numbers that others computed: scipy, numpy, krippendorff, transformers
//! (`scripts/oracle/score.py`).

use std::fs;

use image::RgbImage;
use popalign::bundle::Bundle;
use popalign::judge::clip::{CONVENTION, Clip, cosine};
use popalign::picture::decode;
use popalign::runtime::{Ep, Runtime, SessionOptions};
use popalign::score::bootstrap::{Estimate, Population, Sample, Strata, estimate};
use popalign::score::human::krippendorff_nominal;
use popalign::score::measure::{Measure, Reading};
use popalign::score::metrics::discrepancy::{distance, floor};
use popalign::score::reference::{Bank, FILE, TENSOR};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::world::{at, bundle, frozen, portrait};

const RESAMPLES: u32 = 20_000;
/// The end of a 95% interval from B resamples of a roughly normal statistic has a standard error
/// of √(0.025 · 0.975 / B) / φ(1.96) = 2.67/√B of the statistic's deviation: 0.019 for 20,000.
/// The oracle's 100,000 add a little; five of the sum's are 0.11.
const END_TOLERANCE: f64 = 0.11;
/// numpy and we add the same numbers in another order.
const ROUNDING: f64 = 1e-12;
/// The bootstrap's ends of a statistic that moves in steps may fall on the next one: for the
/// shares of 60 pictures, D moves by up to √2/60.
const LABEL_STEP: f64 = 0.024;
/// Single-precision networks in another order of sums; agreement is on a scale of 100.
const CLIP_TOLERANCE: f64 = 2e-3;

fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().unwrap().iter();
    items.map(|v| v.as_f64().unwrap()).collect()
}

fn population(sizes: &[usize]) -> Population {
    let mut next = 0u32;
    let prompts = sizes.iter().map(|&size| {
        let from = next;
        next += u32::try_from(size).unwrap();
        Strata {
            slots: [(from..next).collect(), Vec::new(), Vec::new()],
        }
    });
    Population {
        prompts: prompts.collect(),
        tag: 7,
        seed: 1,
    }
}

fn check(name: &str, ours: Estimate, step: f64) {
    let theirs = &frozen("numbers.json")["bootstrap"][name];
    assert!(
        (ours.value - at(theirs, "/value")).abs() < ROUNDING,
        "{name}: {ours:?}"
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
fn intervals_of_one_level_are_scipys() {
    let cases = &frozen("numbers.json")["bootstrap"];
    let values = numbers(&cases["mean"]["values"]);
    let mean = |values: &[f64], sample: &Sample| {
        let drawn = sample[0].iter().map(|&slot| values[slot as usize]);
        drawn.sum::<f64>() / values.len() as f64
    };
    let one = population(&[values.len()]);
    let [ours] = estimate(&one, RESAMPLES, |sample| [mean(&values, sample)]);
    check("mean", ours.unwrap(), 0.0);
    let (before, after) = (
        numbers(&cases["paired"]["before"]),
        numbers(&cases["paired"]["after"]),
    );
    let [ours] = estimate(&one, RESAMPLES, |sample| {
        [mean(&after, sample) - mean(&before, sample)]
    });
    check("paired", ours.unwrap(), 0.0);
}

/// One-hot numbers of labels, as a measure of one side.
fn labelled(labels: &[f64], values: usize) -> Measure {
    let reading = Reading::Shares {
        of: distance,
        target: vec![1.0 / values as f64; values],
    };
    let mut measure = Measure::new(reading, labels.len(), false);
    for (slot, &label) in labels.iter().enumerate() {
        let one_hot: Vec<f64> = (0..values)
            .map(|v| f64::from(u8::from(v as f64 == label)))
            .collect();
        measure.set(0, slot, &one_hot);
    }
    measure
}

#[test]
fn discrepancies_and_their_intervals_are_the_official_formula() {
    let cases = &frozen("numbers.json")["bootstrap"];
    let labels = numbers(&cases["discrepancy"]["labels"]);
    let ours = labelled(&labels, 3).estimate(&population(&[labels.len()]), RESAMPLES);
    check("discrepancy", ours.sides[0].unwrap(), LABEL_STEP);
    let prompts: Vec<Vec<f64>> = cases["two_levels"]["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let sizes: Vec<usize> = prompts.iter().map(Vec::len).collect();
    let ours = labelled(&prompts.concat(), 2).estimate(&population(&sizes), RESAMPLES);
    check("two_levels", ours.sides[0].unwrap(), 0.0);
}

#[test]
fn floors_are_the_multinomial_mean() {
    for case in frozen("numbers.json")["floors"].as_array().unwrap() {
        let (n, target) = (at(case, "/n") as u32, numbers(&case["target"]));
        let ours = floor(&target, n, 0).unwrap();
        // Factorials through logarithms cost a few digits.
        assert!((ours - at(case, "/floor")).abs() < 1e-10, "{case}");
    }
    assert_eq!(distance(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
}

#[test]
fn alphas_are_krippendorffs() {
    for case in frozen("numbers.json")["alpha"].as_array().unwrap() {
        let units: Vec<Vec<usize>> = serde_json::from_value(case["units"].clone()).unwrap();
        let ours = krippendorff_nominal(&units).unwrap();
        assert!(
            (ours - at(case, "/alpha")).abs() < ROUNDING,
            "{ours}, {}",
            case["alpha"]
        );
    }
}

#[test]
fn frechet_distances_are_scipys() {
    for case in frozen("numbers.json")["frechet"].as_array().unwrap() {
        let width = at(case, "/width") as usize;
        let rows =
            |key: &str| -> Vec<f32> { numbers(&case[key]).iter().map(|&x| x as f32).collect() };
        let (bank, other) = (rows("bank"), rows("other"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let bytes: Vec<u8> = bank.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![bank.len() / width, width], &bytes).unwrap();
        fs::write(
            &path,
            safetensors::serialize([(TENSOR, view)], None).unwrap(),
        )
        .unwrap();
        let others: Vec<&[f32]> = other.chunks_exact(width).collect();
        let ours = Bank::open(&path, width).unwrap().frechet(&others).unwrap();
        // Rounding to single precision moves each number by up to 3e-8; scipy's root of a
        // singular product is good to about 1e-7.
        let expected = at(case, "/distance");
        assert!((ours - expected).abs() < 2e-6, "{ours}, scipy {expected}");
    }
}

#[test]
fn agreement_and_nearness_are_transformers() {
    let expected = frozen("clip.json");
    let opened = Bundle::open(bundle()).unwrap();
    let runtime = Runtime::load().unwrap();
    let options = SessionOptions::new(Ep::Cpu, 0, 2);
    let mut clip = Clip::open(&runtime, &opened, &options).unwrap();
    let names: Vec<String> = serde_json::from_value(expected["pictures"].clone()).unwrap();
    let pictures: Vec<RgbImage> = names
        .iter()
        .map(|name| decode(&fs::read(portrait(name)).unwrap()).unwrap())
        .collect();
    let pictures = clip.pictures(&pictures.iter().collect::<Vec<_>>()).unwrap();
    let captions: Vec<String> = serde_json::from_value(expected["captions"].clone()).unwrap();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let captions = clip.captions(&captions).unwrap();
    let bank = Bank::open(&opened.file(FILE).unwrap(), clip.width()).unwrap();
    for (i, picture) in pictures.iter().enumerate() {
        for (j, caption) in captions.iter().enumerate() {
            let theirs = at(&expected, &format!("/agreement/{i}/{j}"));
            let ours = CONVENTION * cosine(picture, caption);
            assert!(
                (ours - theirs).abs() < CLIP_TOLERANCE,
                "{} {j}: {ours} {theirs}",
                names[i]
            );
        }
        let theirs = at(&expected, &format!("/reference/{i}"));
        let ours = bank.similarity(picture);
        assert!(
            (ours - theirs).abs() < CLIP_TOLERANCE / 100.0,
            "{}: {ours} {theirs}",
            names[i]
        );
    }
    let all: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
    let ours = bank.frechet(&all).unwrap();
    let theirs = at(&expected, "/frechet");
    assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
}
