//! Classifier chains: from a picture to the attributes of the person in it.
//!
//! A chain is a TOML file over any ONNX models, so that the toolkit's measure of a population is
//! data the user can read, change and argue with, not code. `models/faces/chain.toml` is one for
//! photographs (detector, crops, two classifiers); the demo world's is another (one classifier, no
//! detector):
//!
//! ```toml
//! name = "demo"
//! about = "Attribute classifier of the demo world."
//!
//! [[model]]
//! path = "classifier/model.onnx"   # relative to this file
//! input = "pixel_values"           # [N, 3, height, width]
//! size = [64, 64]                  # width, height
//! channels = "rgb"                 # or "bgr"
//! scale = 0.00784313725            # x = (pixel·scale − mean) / std, pixel in 0..255
//! mean = [1.0, 1.0, 1.0]
//! std = [1.0, 1.0, 1.0]
//! # crop = { scale = 1.0, square = true, resize = "bilinear" }   (or "bicubic")
//!
//! [[model.output]]
//! output = "gender"                # [N, units]
//! axis = "gender"
//! post = "softmax"                 # or "sigmoid", "probabilities"
//! labels = ["female", "male"]      # one per unit; equal names are added up
//! minimum = 0.0                    # below: dropped as `unsure_gender`
//!
//! [[model.output]]
//! output = "visibility"
//! axis = "visibility"
//! labels = ["portrait", "ambiguous", "no_person"]
//! keep = ["portrait"]              # a gate: any other winner drops the picture with that reason
//! ```
//!
//! With `[detector]` (`kind = "yunet"`, `path`, `score`, `nms`, `min_size`, `resize = "fit" |
//! "none"`, `side`, `several = "largest" | "first" | "drop"`) each model sees the chosen face's
//! box, made square and scaled as `crop` says, black outside the picture; a picture without a face
//! is dropped as `no_face`. Without a detector it sees the whole picture.
//!
//! An output whose units are numbers (years) takes `ranges = [{ value = "young", from = 0, to = 40
//! }, …]` instead of `labels`; its expectation is kept as a number beside the axis.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod detect;
mod judge;
mod manifest;
mod prepare;
mod run;
mod shared;
mod yunet;

pub use detect::Face;
pub use manifest::{
    Channels, Crop, Detector, DetectorKind, DetectorResize, Manifest, Model, Output, Post, Range,
    Several,
};
pub use run::{Chain, Reading};

pub use crate::picture::Filter;

use crate::base::fsio;

use crate::runtime;

/// Why a chain can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a file nor the name of a chain that ships.
    #[error(
        "no classifier chain `{name}`: it is no file, and there is no {looked} beside the current folder or the program"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// What was looked for.
        looked: String,
    },
    /// The manifest isn't TOML, or has unknown or missing keys.
    #[error("{}: not a chain manifest", path.display())]
    Toml {
        /// The manifest.
        path: PathBuf,
        /// The parser's reason.
        source: Box<toml::de::Error>,
    },
    /// The manifest contradicts itself.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Which key, and what was expected.
        reason: String,
    },
    /// A model file is not what the manifest says it is.
    #[error("{}: {key} of `{model}`: {problem}", path.display())]
    Model {
        /// The manifest.
        path: PathBuf,
        /// The model file, as the manifest names it.
        model: String,
        /// The manifest's key: `input`, `output` …
        key: String,
        /// What the file has, and what was expected.
        problem: String,
    },
    /// A model answered something that can't be read as its manifest says.
    #[error("{}: output `{output}` of `{model}` is {problem}", path.display())]
    Answer {
        /// The manifest.
        path: PathBuf,
        /// The model file, as the manifest names it.
        model: String,
        /// The output.
        output: String,
        /// What is wrong with it.
        problem: String,
    },
    /// ONNX Runtime refused a model or a run.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fsio::Error),
}

/// What a chain says about one picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The picture counts, with these attributes.
    Kept(Attributes),
    /// The picture is left out, and why.
    Dropped(DropReason),
}

/// The attributes of the person in a picture.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Per axis each value and its probability, in the manifest's order; sums to 1.
    pub axes: BTreeMap<String, Vec<(String, f32)>>,
    /// Expectations of outputs with ranges (axis → Σ i·p(i), e.g. years).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f32>,
}

impl Attributes {
    /// The most probable value of `axis` and its probability.
    pub fn dominant(&self, axis: &str) -> Option<(&str, f32)> {
        let values = self.axes.get(axis).filter(|values| !values.is_empty())?;
        Some(judge::dominant(values))
    }

    /// `{axis: {value: probability}}`, as `metadata.jsonl` keeps it.
    pub fn to_json(&self) -> serde_json::Value {
        let axis = |values: &Vec<(String, f32)>| -> serde_json::Value {
            values
                .iter()
                .map(|(v, p)| (v.clone(), (*p).into()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        self.axes
            .iter()
            .map(|(name, values)| (name.clone(), axis(values)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Why a picture doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The file is no picture that can be decoded.
    Unreadable,
    /// The detector found no face.
    NoFace,
    /// More than one face, and the manifest asks for one.
    SeveralFaces,
    /// A gate's winning label.
    Gate(String),
    /// The winning value of this axis is less probable than its minimum.
    Unsure(String),
}

impl std::fmt::Display for DropReason {
    /// The key under which it is counted: `unreadable`, `no_face`, `several_faces`, a gate's
    /// label, `unsure_<axis>`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("unreadable"),
            Self::NoFace => f.write_str("no_face"),
            Self::SeveralFaces => f.write_str("several_faces"),
            Self::Gate(label) => f.write_str(label),
            Self::Unsure(axis) => write!(f, "unsure_{axis}"),
        }
    }
}

/// Finds a manifest: a file (or a folder with `chain.toml`), or the name of one that ships under
/// `models/NAME/chain.toml` beside the current folder or one of the program's ancestors.
///
/// # Errors
/// [`Error::NotFound`].
pub fn locate(name: &str) -> Result<PathBuf, Error> {
    let direct = Path::new(name);
    if direct.is_file() {
        return Ok(direct.to_path_buf());
    }
    if direct.join("chain.toml").is_file() {
        return Ok(direct.join("chain.toml"));
    }
    let relative = Path::new("models").join(name).join("chain.toml");
    let program = std::env::current_exe().ok();
    let program_dirs = program
        .as_deref()
        .into_iter()
        .flat_map(|p| p.ancestors().skip(1));
    std::iter::once(Path::new("."))
        .chain(program_dirs)
        .map(|dir| dir.join(&relative))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NotFound {
            name: name.into(),
            looked: relative.display().to_string(),
        })
}
