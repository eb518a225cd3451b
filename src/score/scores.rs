//! `scores.json`: everything a run found out, for programs. [`FORMAT`] names its version.
//!
//! Wherever two sides are compared, a number stands as `{"scored": …, "against": …, "difference":
//! …}`: the folders to score, those of `--against`, and the first minus the second. A number with
//! an interval is `{"value", "low", "high"}`. What could not be computed is left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::bootstrap::Estimate;
use super::gallery::{Kind, Layout};
use super::measure::{Compared, SIDES};
use super::metrics::metric::{Metric, Shape};
use super::{Error, Result};
use crate::base::{LeftOut, fsio};

/// The version of the file's format.
pub const FORMAT: &str = "popalign-scores-1";

/// The whole file.
#[derive(Debug, Clone, serde::Serialize)]
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
    /// What was left out of who is drawn, why, and the first files.
    pub left_out: Sided<LeftOut>,
    /// What the numbers are, by the metrics' keys.
    pub metrics: BTreeMap<&'static str, String>,
    /// Who is drawn for neutral prompts, axis by axis.
    pub axes: Vec<AxisScore>,
    /// One number of all axes, by its key.
    #[serde(skip_serializing_if = "OverAxes::is_empty")]
    pub over_axes: OverAxes,
    /// Whether captions that name values are obeyed.
    #[serde(flatten)]
    pub named: ByMetric<Named>,
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
    pub rows: Vec<PictureScore>,
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
}

/// Something by metric: entries of the object that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub struct ByMetric<T>(pub Vec<(&'static Metric, T)>);

impl<T> ByMetric<T> {
    /// That of a metric.
    pub fn of(&self, metric: &Metric) -> Option<&T> {
        let mut own = self.0.iter().filter(|(other, _)| *other == metric);
        own.next().map(|(_, value)| value)
    }
}

impl<T> Default for ByMetric<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<(&'static Metric, T)> for ByMetric<T> {
    fn from_iter<I: IntoIterator<Item = (&'static Metric, T)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for ByMetric<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(metric, value)| (metric.key, value)))
    }
}

/// One number of all axes for each metric that has such a number, by its key.
#[derive(Debug, Clone, PartialEq)]
pub struct OverAxes(pub Vec<(&'static Metric, Sided<Estimate>)>);

impl OverAxes {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for OverAxes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let key = |metric: &Metric| match &metric.shape {
            Shape::Axes(axes) => axes.joined.as_ref().map_or(metric.key, |j| j.key),
            _ => metric.key,
        };
        serializer.collect_map(self.0.iter().map(|(metric, sided)| (key(metric), sided)))
    }
}

/// Something of both sides, or of the one there is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
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
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Input {
    /// As it was given.
    pub dir: String,
    /// How it says what its pictures are.
    pub layout: Layout,
    /// How many pictures it names.
    pub pictures: usize,
    /// Rows of pictures that were not kept as files.
    pub without_files: usize,
    /// Pictures in the folder that no row of its table names.
    pub unlisted: usize,
    /// Pictures that have seed, caption and number, and so their noise, of one that was trained on;
    /// absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_with_training: Option<usize>,
    /// SHA-256 over a line `SHA-256  name` for each picture, in order.
    pub sha256: String,
}

/// The chain that classified.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ChainFacts {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub about: String,
    /// Over its manifest, models and weights.
    pub sha256: String,
}

/// How many pictures there were, and why some don't count.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// All.
    pub files: usize,
    /// Those in which the chain saw a person.
    pub kept: usize,
    /// The others, by reason.
    pub dropped: BTreeMap<String, usize>,
}

/// One axis over all neutral prompts.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
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
    /// The metrics of its shares: means over prompts, or pooled where the key says so.
    #[serde(flatten)]
    pub numbers: AxisNumbers,
    /// The share of each value over all neutral pictures that count, of all prompts.
    pub shares: Sided<Vec<f64>>,
}

/// Whether captions that name values are obeyed: the mean over pictures of how far they show them.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Named {
    /// How many prompts name values.
    pub prompts: usize,
    /// By axis, over the pictures whose captions name it.
    pub axes: BTreeMap<String, Sided<Estimate>>,
    /// Of everything that captions name.
    pub all: Sided<Estimate>,
    /// By axis and value: share and number of pictures.
    pub values: BTreeMap<String, BTreeMap<String, Sided<Share>>>,
}

/// A share of some pictures.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Share {
    /// The share.
    pub share: f64,
    /// How many pictures it is of.
    pub pictures: usize,
}

/// One measure of how good pictures are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Quality {
    /// Its key, what it is, and whether more is better.
    #[serde(flatten)]
    pub metric: &'static Metric,
    /// How many pictures it is over: those that can be read.
    pub pictures: Sided<usize>,
    /// Over all readable pictures.
    pub all: Sided<Estimate>,
    /// By kind of prompt.
    pub kinds: BTreeMap<&'static str, Sided<Estimate>>,
}

/// How alike the two sides' pictures of one seed are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Similarity {
    /// How many pairs there are.
    pub pairs: usize,
    /// Places that make no pair: those of which one side has no picture or none that can be read.
    pub unpaired: usize,
    /// How many pairs each metric has a value for.
    pub pairs_of: BTreeMap<&'static str, usize>,
    /// The metrics of pairs that have a value.
    #[serde(flatten)]
    pub numbers: ByMetric<Estimate>,
}

/// One prompt.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
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
    /// The means of the metrics of pictures.
    #[serde(flatten)]
    pub quality: ByMetric<Sided<f64>>,
    /// The means of those metrics of pairs that are given prompt by prompt.
    #[serde(flatten)]
    pub pairs: ByMetric<f64>,
}

/// One axis of one neutral prompt.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PromptAxis {
    /// The axis.
    pub axis: String,
    /// The share of each value.
    pub shares: Sided<Vec<f64>>,
    /// The mean probability of each value.
    pub soft_shares: Sided<Vec<f64>>,
    /// The metrics of its shares; their intervals are over pictures only.
    #[serde(flatten)]
    pub numbers: AxisNumbers,
}

/// The metrics of an axis' shares.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisNumbers(pub Vec<AxisNumber>);

/// A metric of an axis' shares: in `scores.json` as `KEY`, `soft_KEY` and, if it
/// has them, `KEY_floor` (the headline's is `floor`) and `KEY_bounds`.
#[derive(Debug, Clone, PartialEq)]
pub struct AxisNumber {
    /// The metric.
    pub metric: &'static Metric,
    /// From most probable values.
    pub hard: Sided<Estimate>,
    /// From the classifier's probabilities.
    pub soft: Sided<Estimate>,
    /// What a population that meets the target would score with as many pictures, where the
    /// metric can say.
    pub floor: Option<Sided<f64>>,
    /// What the number from most probable values could be if dropped pictures counted, where the
    /// metric can say.
    pub bounds: Option<Sided<Bounded>>,
}

/// Between which numbers a metric is, whatever dropped pictures show.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bounded {
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// How many pictures were dropped. Prompts of which all were count here.
    pub dropped: usize,
}

impl AxisNumbers {
    /// That of a metric.
    pub fn of(&self, metric: &Metric) -> Option<&AxisNumber> {
        self.0.iter().find(|number| number.metric == metric)
    }

    /// That of the report's headline.
    pub fn headline(&self) -> Option<&AxisNumber> {
        self.0.iter().find(|number| number.metric.is_headline())
    }
}

impl AxisNumber {
    /// The bounds of a side.
    pub fn bounds_of(&self, side: usize) -> Option<&Bounded> {
        self.bounds.as_ref()?.side(side)
    }

    /// The floor of a side.
    pub fn floor_of(&self, side: usize) -> Option<f64> {
        self.floor.as_ref()?.side(side).copied()
    }
}

impl Serialize for AxisNumbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for number in &self.0 {
            let key = number.metric.key;
            map.serialize_entry(key, &number.hard)?;
            map.serialize_entry(&format!("soft_{key}"), &number.soft)?;
            match &number.floor {
                None => {}
                Some(floor) if number.metric.is_headline() => {
                    map.serialize_entry("floor", floor)?;
                }
                Some(floor) => map.serialize_entry(&format!("{key}_floor"), floor)?,
            }
            if let Some(bounds) = &number.bounds {
                map.serialize_entry(&format!("{key}_bounds"), bounds)?;
            }
        }
        map.end()
    }
}

/// One picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PictureScore {
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
    /// Why it can't be read; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The most probable value of each axis, and its probability.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub axes: BTreeMap<String, (String, f32)>,
    /// Numbers such as years of age.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f32>,
    /// The metrics of pictures that have a value.
    #[serde(flatten)]
    pub quality: ByMetric<f64>,
}
