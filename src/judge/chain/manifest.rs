//! The chain manifest: what TOML describes a classifier chain.
//!
//! Parsing is strict: an unknown key, a label list that can't be right or a size of zero is an
//! error naming the file and the key, before any picture is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::fsio;
use crate::picture::Filter;

use super::error::Error;

/// Beyond this a typing error is likelier than a purpose, and memory runs out.
const LARGEST_SIDE: u32 = 8192;
/// The same for how much a crop may be larger than its face.
const LARGEST_CROP: f64 = 16.0;

/// A whole manifest; see [`super`] for the format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainManifest {
    /// The manifest's file, for messages.
    #[serde(skip)]
    pub file: PathBuf,
    /// Short name, as in `--chain faces`.
    pub name: String,
    /// One sentence for the report: what decides here, and how far to trust it.
    #[serde(default)]
    pub about: String,
    /// Finds faces; without it each picture is classified whole.
    pub detector: Option<Detector>,
    /// The classifiers, in the order they run.
    #[serde(rename = "model")]
    pub models: Vec<Model>,
}

/// How a detector's boxes are found and which one counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// Which decoder reads the model's outputs.
    pub kind: DetectorKind,
    /// ONNX file, relative to the manifest.
    pub path: PathBuf,
    /// At which size the detector looks at a picture.
    #[serde(default)]
    pub resize: DetectorResize,
    /// Side of the square that [`DetectorResize::Fit`] makes, a multiple of 32.
    #[serde(default = "default_side")]
    pub side: u32,
    /// Least score of a face, 0..1.
    #[serde(default = "default_score")]
    pub score: f32,
    /// Boxes that overlap a better one by more than this share (intersection over union) go.
    #[serde(default = "default_nms")]
    pub nms: f32,
    /// Faces whose longer side is shorter than this many pixels of the picture are ignored.
    #[serde(default)]
    pub min_size: f32,
    /// Which face counts when there are several.
    #[serde(default)]
    pub several: Several,
}

fn default_side() -> u32 {
    640
}

fn default_score() -> f32 {
    0.6
}

fn default_nms() -> f32 {
    0.3
}

/// Decoders of detector outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    /// YuNet 2023mar: `cls_`, `obj_`, `bbox_` and `kps_` at strides 8, 16 and 32.
    Yunet,
}

/// At which size a detector looks at a picture. It finds faces of 10 to 300 pixels best, and its
/// boxes differ by some percent between sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorResize {
    /// Shrunk or enlarged into a square, black to the right of it and below.
    #[default]
    Fit,
    /// As it is, black to the right and below up to a multiple of 32 (as OpenCV does it). For
    /// group photographs with small faces; time and memory grow with the picture.
    None,
}

/// What to do with a picture of several faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Several {
    /// The face of the largest box counts.
    #[default]
    Largest,
    /// The face of the highest score counts (what the official PopAlign code does).
    First,
    /// The picture is dropped as `several_faces`.
    Drop,
}

/// One ONNX classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// ONNX file, relative to the manifest.
    pub path: PathBuf,
    /// Name of the picture input, layout [N, 3, height, width], fp32 or fp16.
    pub input: String,
    /// Width and height the model wants, in pixels.
    pub size: [u32; 2],
    /// Order of the three channels.
    #[serde(default)]
    pub channels: Channels,
    /// What of the picture the model sees.
    #[serde(default)]
    pub crop: Crop,
    /// Pixels (0..255) are multiplied by this first …
    #[serde(default = "one")]
    pub scale: f32,
    /// … then this is subtracted, one number per channel in the model's channel order …
    #[serde(default)]
    pub mean: [f32; 3],
    /// … and the result is divided by this.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    /// What the model's outputs mean.
    #[serde(rename = "output")]
    pub outputs: Vec<Output>,
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Channel order of a model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How a face box (or the whole picture) becomes a model's input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crop {
    /// The box's sides are multiplied by this about its centre.
    pub scale: f64,
    /// The box is first widened to a square of its longer side.
    pub square: bool,
    /// How the crop is brought to the model's size.
    pub resize: Filter,
}

impl Default for Crop {
    fn default() -> Self {
        Self {
            scale: 1.0,
            square: true,
            resize: Filter::Bilinear,
        }
    }
}

/// What one output of a model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The output's name in the ONNX file; shape [N, units] or [N, units, 1, 1].
    pub output: String,
    /// The axis it measures (`gender`), or, with `keep`, a name for what it gates.
    pub axis: String,
    /// How raw units become probabilities.
    #[serde(default)]
    pub post: Post,
    /// The value of each unit, in order. Units with the same value are added up; a sigmoid output
    /// of one unit takes two labels: that of 0 and that of 1.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Instead of `labels`, for units that are numbers (years of age): ranges of unit indices.
    /// The expectation Σ i·p(i) is reported beside the axis.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// Least probability of the winning value; below it the picture is dropped as `unsure_<axis>`.
    #[serde(default)]
    pub minimum: f32,
    /// Makes the output a gate: a picture whose winning label is not listed here is dropped, with
    /// the label as reason (`ambiguous`, `no_person`). A gate is no axis of the result.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// How a model's raw output becomes probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Post {
    /// Raw scores; the softmax over the units is taken.
    #[default]
    Softmax,
    /// One raw score; its logistic function is the probability of the second label.
    Sigmoid,
    /// The outputs are probabilities already; one unit is that of the second label.
    Probabilities,
}

/// Units `from..to` of an output mean `value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The axis value.
    pub value: String,
    /// First unit.
    pub from: usize,
    /// The unit after the last.
    pub to: usize,
}

impl ChainManifest {
    /// Reads and checks a manifest file.
    ///
    /// # Errors
    /// The file can't be read, isn't TOML, or says something that can't be.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fsio::read_to_string(path)?;
        let mut manifest: Self = toml::from_str(&text).map_err(|source| Error::Toml {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        manifest.file = path.to_path_buf();
        manifest.check().map_err(|reason| Error::Manifest {
            path: path.to_path_buf(),
            reason,
        })?;
        Ok(manifest)
    }

    /// The axes the chain measures and each axis's values, in the manifest's order.
    pub fn axes(&self) -> BTreeMap<String, Vec<String>> {
        self.models
            .iter()
            .flat_map(|model| &model.outputs)
            .filter(|output| !output.is_gate())
            .map(|output| (output.axis.clone(), output.values()))
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.models.is_empty() {
            return Err("expected at least one [[model]]".into());
        }
        self.detector.as_ref().map_or(Ok(()), Detector::check)?;
        let mut seen = Vec::new();
        for model in &self.models {
            model.check()?;
            for output in &model.outputs {
                if seen.contains(&&output.axis) {
                    return Err(format!("axis `{}` is measured twice", output.axis));
                }
                seen.push(&output.axis);
            }
        }
        Ok(())
    }
}

impl Detector {
    fn check(&self) -> Result<(), String> {
        let share = |x: f32| (0.0..=1.0).contains(&x);
        if !share(self.score) || !share(self.nms) {
            return Err("detector.score and detector.nms: expected numbers from 0 to 1".into());
        }
        if self.min_size < 0.0 {
            return Err("detector.min_size: expected 0 or more pixels".into());
        }
        if self.side == 0 || !self.side.is_multiple_of(32) || self.side > LARGEST_SIDE {
            return Err(format!(
                "detector.side: expected a multiple of 32 up to {LARGEST_SIDE}"
            ));
        }
        Ok(())
    }
}

impl Model {
    fn check(&self) -> Result<(), String> {
        let name = self.path.display();
        if self.size.iter().any(|n| !(1..=LARGEST_SIDE).contains(n)) {
            return Err(format!(
                "model `{name}`: size: expected 1 to {LARGEST_SIDE} pixels"
            ));
        }
        if self.std.contains(&0.0) {
            return Err(format!(
                "model `{name}`: std: expected numbers other than 0"
            ));
        }
        let scale = self.crop.scale;
        if !(scale > 0.0 && scale <= LARGEST_CROP) {
            return Err(format!(
                "model `{name}`: crop.scale: expected more than 0 and up to {LARGEST_CROP}"
            ));
        }
        if self.outputs.is_empty() {
            return Err(format!(
                "model `{name}`: expected at least one [[model.output]]"
            ));
        }
        self.outputs.iter().try_for_each(Output::check)
    }
}

impl Output {
    /// Whether the output only decides which pictures are kept.
    pub fn is_gate(&self) -> bool {
        !self.keep.is_empty()
    }

    /// The distinct values, in order of first appearance.
    pub fn values(&self) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        let names = self
            .labels
            .iter()
            .chain(self.ranges.iter().map(|r| &r.value));
        for name in names {
            if !values.contains(name) {
                values.push(name.clone());
            }
        }
        values
    }

    fn check(&self) -> Result<(), String> {
        let at = |what: &str| Err(format!("output `{}`: {what}", self.output));
        match (self.labels.len(), self.ranges.len()) {
            (0, 0) => return at("expected `labels` or `ranges`"),
            (1.., 1..) => return at("expected `labels` or `ranges`, not both"),
            _ => {}
        }
        if self.post == Post::Sigmoid && self.labels.len() != 2 {
            return at("a sigmoid takes two labels: that of 0 and that of 1");
        }
        if self.ranges.iter().any(|r| r.from >= r.to) {
            return at("ranges: expected from < to");
        }
        let meet = |(i, a): (usize, &Range)| {
            let mut later = self.ranges.iter().skip(i + 1);
            later.any(|b| a.from < b.to && b.from < a.to)
        };
        if self.ranges.iter().enumerate().any(meet) {
            return at("ranges: expected no unit in two ranges");
        }
        if let Some(unknown) = self.keep.iter().find(|k| !self.values().contains(k)) {
            return at(&format!("keep: `{unknown}` is none of its labels"));
        }
        if !(0.0..=1.0).contains(&self.minimum) {
            return at("minimum: expected a number from 0 to 1");
        }
        Ok(())
    }

    /// Whether a model's output of so many units can be read.
    pub(super) fn takes(&self, units: usize) -> bool {
        match self.ranges.iter().map(|r| r.to).max() {
            Some(least) => units >= least,
            None => match self.post {
                Post::Softmax => units == self.labels.len(),
                Post::Sigmoid => units == 1,
                Post::Probabilities => {
                    units == self.labels.len() || (units == 1 && self.labels.len() == 2)
                }
            },
        }
    }

    /// The numbers of units that [`Output::takes`], in words.
    pub(super) fn taken(&self) -> String {
        match self.ranges.iter().map(|r| r.to).max() {
            Some(least) => format!("at least {least} units for its ranges"),
            None => match (self.post, self.labels.len()) {
                (Post::Sigmoid, _) => "1 unit for its sigmoid".into(),
                (Post::Probabilities, 2) => "1 or 2 units for its 2 labels".into(),
                (_, n) => format!("{n} units for its {n} labels"),
            },
        }
    }
}
