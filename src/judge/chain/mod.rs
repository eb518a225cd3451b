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

mod detect;
mod error;
mod face;
mod judge;
mod locate;
mod manifest;
mod prepare;
mod run;
mod shared;
mod verdict;
mod yunet;

pub use error::Error;
pub use face::Face;
pub use locate::{choose, locate};
pub use manifest::{
    ChainManifest, Channels, Crop, Detector, DetectorKind, DetectorResize, Model, Output, Post,
    Range, Several,
};
pub use run::{Chain, Reading};
pub(in crate::judge) use verdict::winner;
pub use verdict::{Attributes, DropReason, Verdict};
