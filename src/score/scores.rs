//! `scores.json`: everything a run found out, for programs. [`FORMAT`] names its version.
//!
//! Wherever two sides are compared, a number stands as `{"scored": …, "against": …, "difference":
//! …}`: the folders to score, those of `--against`, and the first minus the second. A number with
//! an interval is `{"value", "low", "high"}`. What could not be computed is left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::bootstrap::Estimate;
use super::gallery::{Kind, Layout};
use super::measure::{Compared, SIDES};
use super::{Error, Result};
use crate::base::fsio;

/// The version of the file's format.
pub const FORMAT: &str = "popalign-scores-1";

/// The whole file.
#[derive(Debug, Clone, Serialize)]
pub struct Scores {
    /// [`FORMAT`].
    pub format: &'static str,
    /// Every option that the numbers depend on.
    pub config: Map<String, Value>,
    /// The folders, and what was in them.
    pub inputs: Sided<Vec<Input>>,
    /// Versions of the programs that computed the numbers.
    pub versions: BTreeMap<String, String>,
    /// The classifier chain: name, what it says about itself, SHA-256.
    pub chain: ChainFacts,
    /// How many pictures there were, and why some don't count.
    pub pictures: Sided<Counts>,
    /// The same by kind of prompt.
    pub pictures_by_kind: BTreeMap<&'static str, Sided<Counts>>,
    /// Discrepancy of neutral prompts, axis by axis.
    pub axes: Vec<AxisScore>,
    /// Whether captions that name values are obeyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// How good the pictures are, metric by metric.
    pub quality: Vec<Quality>,
    /// Whether the pictures of one seed stayed the same, by kind of prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similarity: Option<BTreeMap<&'static str, Similarity>>,
    /// Prompt by prompt.
    pub prompts: Vec<PromptScore>,
    /// What the training log says, with `--training`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Value>,
    /// How far people agreed, with `--human-ratings`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<Value>,
    /// Picture by picture.
    pub rows: Vec<Row>,
}

impl Scores {
    /// Writes the file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(|source| Error::Json {
            path: path.to_path_buf(),
            source,
        })?;
        text.push('\n');
        Ok(fsio::write(path, text)?)
    }

    /// The most important numbers, a line each.
    pub fn summary(&self) -> Vec<String> {
        let line = |name: String, sided: &Sided<Estimate>| {
            let scored = sided.scored?.text();
            Some(match &sided.against {
                None => format!("{name}: {scored}"),
                Some(against) => format!("{name}: {} -> {scored}", against.text()),
            })
        };
        let axes = self.axes.iter();
        let axes = axes.map(|a| line(format!("discrepancy of {}", a.axis), &a.discrepancy));
        let recall = self.recall.iter().map(|r| line("recall".into(), &r.all));
        let quality = self.quality.iter().map(|q| line(q.metric.into(), &q.all));
        axes.chain(recall).chain(quality).flatten().collect()
    }
}

/// Something of both sides, or of the one there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sided<T> {
    /// Of the folders to score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored: Option<T>,
    /// Of the folders of `--against`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<T>,
    /// Scored minus against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<T>,
}

impl<T> Sided<T> {
    /// Of each side, without a difference.
    pub fn new([scored, against]: [Option<T>; SIDES]) -> Self {
        Self {
            scored,
            against,
            difference: None,
        }
    }

    /// By side.
    pub fn side(&self, side: usize) -> Option<&T> {
        match side {
            0 => self.scored.as_ref(),
            _ => self.against.as_ref(),
        }
    }
}

impl From<Compared> for Sided<Estimate> {
    fn from(compared: Compared) -> Self {
        let [scored, against] = compared.sides;
        Self {
            scored,
            against,
            difference: compared.difference,
        }
    }
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    /// As it was given.
    pub dir: String,
    /// How it says what its pictures are.
    pub layout: Layout,
    /// How many pictures it names.
    pub pictures: usize,
    /// Rows of pictures that were not kept as files.
    pub without_files: usize,
    /// SHA-256 over a line `SHA-256  name` for each picture, in order.
    pub sha256: String,
}

/// The chain that classified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainFacts {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub about: String,
    /// Over its manifest, models and weights.
    pub sha256: String,
}

/// How many pictures there were, and why some don't count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub files: usize,
    /// Those in which the chain saw a person.
    pub kept: usize,
    /// The others, by reason.
    pub dropped: BTreeMap<String, usize>,
}

/// One axis over all neutral prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AxisScore {
    /// The axis; `a+b` for two as one.
    pub axis: String,
    /// Its values.
    pub values: Vec<String>,
    /// The share each value should have.
    pub target: Vec<f64>,
    /// How many prompts count: with two sides, those with pictures of both.
    pub prompts: usize,
    /// Neutral prompts that don't.
    pub prompts_left_out: usize,
    /// The mean of D over prompts, from most probable values: the headline.
    pub discrepancy: Sided<Estimate>,
    /// The same from the classifier's probabilities.
    pub soft_discrepancy: Sided<Estimate>,
    /// What a population that meets the target would score with as many pictures.
    pub floor: Sided<f64>,
    /// The share of each value over all neutral pictures that count.
    pub shares: Sided<Vec<f64>>,
}

/// Whether captions that name values are obeyed: the share of pictures that show them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recall {
    /// How many prompts name values.
    pub prompts: usize,
    /// By axis, over the pictures whose captions name it.
    pub axes: BTreeMap<String, Sided<Estimate>>,
    /// Pictures that show everything their captions name.
    pub all: Sided<Estimate>,
    /// By axis and value: share and number of pictures.
    pub values: BTreeMap<String, BTreeMap<String, Sided<Share>>>,
}

/// A share of some pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share.
    pub share: f64,
    /// How many pictures it is of.
    pub pictures: usize,
}

/// One measure of how good pictures are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quality {
    /// Its name, as in `--metrics`.
    pub metric: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Over all readable pictures.
    pub all: Sided<Estimate>,
    /// By kind of prompt.
    pub kinds: BTreeMap<&'static str, Sided<Estimate>>,
}

/// How alike the two sides' pictures of one seed are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// How many pairs there are.
    pub pairs: usize,
    /// Mean absolute difference of pixels, as a share of their range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_difference: Option<Estimate>,
    /// Cosine of CLIP's picture embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_cosine: Option<Estimate>,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptScore {
    /// The caption.
    pub prompt: String,
    /// What its pictures are evidence of.
    pub kind: Kind,
    /// The values it names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, String>,
    /// How many pictures there were, and why some don't count.
    pub pictures: Sided<Counts>,
    /// Axis by axis, for neutral prompts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<PromptAxis>,
    /// Mean agreement of picture and caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<Sided<f64>>,
    /// Mean similarity to reference pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Sided<f64>>,
    /// Mean absolute difference of pixels between the two pictures of one seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_difference: Option<f64>,
}

/// One axis of one neutral prompt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptAxis {
    /// The axis.
    pub axis: String,
    /// The share of each value.
    pub shares: Sided<Vec<f64>>,
    /// The mean probability of each value.
    pub soft_shares: Sided<Vec<f64>>,
    /// D, from most probable values; the interval is over pictures only.
    pub discrepancy: Sided<Estimate>,
    /// D, from the classifier's probabilities.
    pub soft_discrepancy: Sided<Estimate>,
    /// What a population that meets the target would score with as many pictures.
    pub floor: Sided<f64>,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `scored` or `against`.
    pub side: &'static str,
    /// The number of its folder among those of its side, from 0.
    pub folder: usize,
    /// Its file, relative to the folder.
    pub file: String,
    /// The index of its prompt in `prompts`.
    pub prompt: usize,
    /// Why it doesn't count; absent if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// The most probable value of each axis, and its probability.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, (String, f32)>,
    /// Numbers such as years of age.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f32>,
    /// Agreement with its caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Similarity to reference pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
}
