//! The chain under test, the pictures made of one, and how what was found is held to what should be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage, imageops};
use popalign::base::fsio::sha256_bytes;
use popalign::judge::chain::{Attributes, Chain, Face, Verdict};
use popalign::picture;
use popalign::picture::{Filter, resample};
use popalign::runtime::{Ep, Runtime, SessionOptions};
use serde::Deserialize;

/// Faces, in pixels of the picture. The issue allows 1; what is left are the last bits of the
/// network's arithmetic and of `exp`, times the picture's scale.
pub(crate) const PIXELS: f64 = 0.02;
/// Scores and probabilities. The issue allows 1e-3; other machines' kernels may round otherwise.
pub(crate) const PROBABILITY: f64 = 1e-4;
/// Expected age: a sum over probabilities times up to 99.
pub(crate) const YEARS: f64 = 1e-3;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/faces").join(name)
}

pub(crate) fn frozen<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name)).unwrap()).unwrap()
}

/// The face chain with some text of its manifest replaced.
pub(crate) fn chain(edits: &[(&str, &str)], threads: usize) -> Chain {
    let models = root().join("models/faces");
    let mut text = std::fs::read_to_string(models.join("chain.toml")).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    // Elsewhere, so that the models are named by their full paths.
    let text = text.replace("path = \"", &format!("path = \"{}/", models.display()));
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("chain.toml");
    std::fs::write(&manifest, text).unwrap();
    open(&manifest, threads)
}

pub(crate) fn open(manifest: &Path, threads: usize) -> Chain {
    let mut options = SessionOptions::new(Ep::Cpu, 0, threads);
    // Other tests run beside this one.
    options.spin = false;
    Chain::open(&Runtime::load().unwrap(), manifest, &options).unwrap()
}

pub(crate) fn astronaut() -> RgbImage {
    picture::read(&fixture("astronaut.png")).unwrap()
}

pub(crate) fn resized(picture: &RgbImage, to: [u32; 2], filter: Filter) -> RgbImage {
    let (width, height) = picture.dimensions();
    resample(picture, [0, 0, width.into(), height.into()], to, filter)
}

pub(crate) fn cropped(picture: &RgbImage, bounds: [i64; 4]) -> RgbImage {
    let size = [bounds[2] - bounds[0], bounds[3] - bounds[1]].map(|n| n as u32);
    resample(picture, bounds, size, Filter::Bilinear)
}

/// The pictures that `scripts/oracle/faces.py` makes, by name.
pub(crate) fn recipes() -> BTreeMap<&'static str, RgbImage> {
    let astronaut = astronaut();
    let face = cropped(&astronaut, [120, 20, 340, 240]);
    let mut crowd = RgbImage::new(1280, 1024);
    for i in 0..20 {
        let size = 120 + 6 * i;
        let small = resized(&face, [size, size], Filter::Bilinear);
        let (x, y) = (256 * (i % 5), 256 * (i / 5));
        imageops::replace(&mut crowd, &small, x.into(), y.into());
    }
    let blue = Rgb([90, 120, 150]);
    let mut wide = RgbImage::from_pixel(2000, 200, blue);
    let small = resized(&astronaut, [200, 200], Filter::Bicubic);
    imageops::replace(&mut wide, &small, 1700, 0);
    BTreeMap::from([
        ("crowd", crowd),
        ("large", resized(&astronaut, [1500, 1400], Filter::Bicubic)),
        ("small", resized(&astronaut, [80, 90], Filter::Bilinear)),
        ("wide", wide),
        ("cut", cropped(&astronaut, [215, 0, 512, 512])),
        ("outside", cropped(&astronaut, [-200, -50, 500, 700])),
        ("suit", cropped(&astronaut, [150, 300, 400, 512])),
        ("sky", RgbImage::from_pixel(300, 200, blue)),
        ("dot", RgbImage::from_pixel(1, 1, blue)),
        ("astronaut", astronaut),
    ])
}

/// What the references say about a picture.
#[derive(Deserialize)]
pub(crate) struct Frozen {
    pub(crate) sha256: String,
    /// Of the file, for photographs.
    pub(crate) file_sha256: Option<String>,
    pub(crate) size: [u32; 2],
    pub(crate) faces: Vec<FrozenFace>,
    /// OpenCV's FaceDetectorYN on the picture fitted into the detector's square.
    pub(crate) opencv_fit: Vec<FrozenFace>,
    /// The same on the picture as it is.
    pub(crate) opencv_none: Vec<FrozenFace>,
}

#[derive(Deserialize)]
pub(crate) struct FrozenFace {
    pub(crate) bounds: [f64; 4],
    pub(crate) landmarks: [[f64; 2]; 5],
    pub(crate) score: f64,
    pub(crate) attributes: Option<FrozenAttributes>,
}

#[derive(Deserialize)]
pub(crate) struct FrozenAttributes {
    pub(crate) male: f64,
    pub(crate) young: f64,
    pub(crate) years: f64,
    pub(crate) race: BTreeMap<String, f64>,
}

impl Frozen {
    /// Whether this is the picture they looked at.
    pub(crate) fn is(&self, picture: &RgbImage) -> bool {
        picture.dimensions() == self.size.into() && sha256_bytes(picture.as_raw()) == self.sha256
    }
}

/// Holds faces to what a reference found, in its order.
pub(crate) fn same_faces(
    name: &str,
    found: &[Face],
    expected: &[FrozenFace],
    pixels: f64,
    score: f64,
) {
    assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
    for (i, (face, expected)) in found.iter().zip(expected).enumerate() {
        let near = |what: &str, found: f64, expected: f64, most: f64| {
            let off = (found - expected).abs();
            assert!(
                off <= most,
                "{name}, face {i}, {what}: {found} for {expected}"
            );
        };
        near("score", face.score.into(), expected.score, score);
        for (a, b) in face.bounds.iter().zip(&expected.bounds) {
            near("bounds", *a, *b, pixels);
        }
        let landmarks = face.landmarks.iter().flatten();
        for (a, b) in landmarks.zip(expected.landmarks.iter().flatten()) {
            near("landmarks", *a, *b, pixels);
        }
    }
}

/// Holds a face's attributes to the reference's.
pub(crate) fn same_attributes(
    name: &str,
    found: &Attributes,
    expected: &FrozenAttributes,
    probability: f64,
    years: f64,
) {
    let p = |axis: &str, value: &str| {
        let mut values = found.axes[axis].iter();
        f64::from(values.find(|v| v.0 == value).unwrap().1)
    };
    let near = |what: &str, found: f64, expected: f64, most: f64| {
        let off = (found - expected).abs();
        assert!(off <= most, "{name}, {what}: {found} for {expected}");
    };
    near("male", p("gender", "male"), expected.male, probability);
    near("young", p("age", "young"), expected.young, probability);
    near("years", found.numbers["age"].into(), expected.years, years);
    for (race, share) in &expected.race {
        near(race, p("race", race), *share, probability);
    }
}

pub(crate) fn kept(verdict: &Verdict) -> &Attributes {
    match verdict {
        Verdict::Kept(attributes) => attributes,
        Verdict::Dropped(reason) => panic!("dropped: {reason}"),
    }
}
