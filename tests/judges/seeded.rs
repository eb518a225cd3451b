//! Files of published weights, made of their skeletons: numbers that follow from each tensor's name, as
//! `scripts/oracle/seeded.py` makes them.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use popalign::tensors::{DType, Tensor, Weights};
use serde_json::Value;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/judges")
}

/// A JSON fixture.
pub(crate) fn frozen(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixtures().join(name)).unwrap()).unwrap()
}

/// Copies a folder of weights, unpacking and filling its skeletons.
pub(crate) fn unpack(from: &Path, to: &Path, seeds: &[(&str, u64)]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            unpack(&path, &to.join(name), seeds);
        } else if let (Some(name), false) = (name.strip_suffix(".gz"), name.ends_with(".txt.gz")) {
            let whole = to.join(name);
            gunzip(&path, &whole);
            let place = whole.to_str().unwrap();
            let seed = seeds.iter().find(|(part, _)| place.contains(part));
            fill(&whole, seed.map_or(0, |(_, seed)| *seed));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

pub(crate) fn gunzip(from: &Path, to: &Path) {
    let mut bytes = Vec::new();
    let file = fs::File::open(from).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    fs::write(to, bytes).unwrap();
}

/// Gives every tensor of a file its numbers.
pub(crate) fn fill(path: &Path, seed: u64) {
    let weights = Weights::open_files([path]).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    for tensor in weights.iter().filter(|t| t.dtype.is_float()) {
        file.seek(SeekFrom::Start(tensor.offset)).unwrap();
        file.write_all(&bytes(tensor, seed)).unwrap();
    }
}

fn bytes(tensor: &Tensor, seed: u64) -> Vec<u8> {
    let values = values(&tensor.name, &tensor.shape, seed);
    let all = values.into_iter();
    match tensor.dtype {
        DType::F32 => all.flat_map(|v| (v as f32).to_le_bytes()).collect(),
        DType::F16 => all
            .flat_map(|v| half::f16::from_f64(v).to_le_bytes())
            .collect(),
        other => panic!("{}: {other}", tensor.name),
    }
}

/// A tensor's numbers: of norms about 1, of others such that sums keep their size.
fn values(name: &str, shape: &[u64], seed: u64) -> Vec<f64> {
    let lower = name.to_lowercase();
    let count: u64 = shape.iter().product();
    let parts = [
        "ln_",
        "layer_norm",
        "layernorm",
        "layrnorm",
        "bn",
        "running_",
        "norm.",
    ];
    let norm = parts.iter().any(|part| lower.contains(part));
    let (add, scale) = if lower.contains("logit_scale") {
        (100f64.ln(), 0.0)
    } else if norm && (lower.ends_with("weight") || lower.contains("running_var")) {
        (1.0, 0.1)
    } else if shape.len() < 2 {
        (0.0, 0.1)
    } else {
        let fan_in: u64 = match lower.contains("kernel") {
            true => shape[..shape.len() - 1].iter().product(),
            false => shape[1..].iter().product(),
        };
        (0.0, (3.0 / fan_in as f64).sqrt())
    };
    let name = fnv(&format!("{seed}:{name}"));
    (1..=count)
        .map(|i| add + scale * uniform(name, i))
        .collect()
}

/// splitmix64 of a place, as a number of [-1, 1).
fn uniform(name: u64, index: u64) -> f64 {
    let x = name.wrapping_add(index.wrapping_mul(GOLDEN));
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let x = x ^ (x >> 31);
    (x >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// FNV-1a, 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |value, byte| {
        (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}
