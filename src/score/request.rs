//! What a scoring run is asked, what it says meanwhile, and what comes out.

use std::path::PathBuf;

use super::choice::Metrics;
use super::look::Looks;
use super::population::Population;
use super::scores::Scores;
use crate::base::Values;
use crate::runtime::SessionOptions;

/// What `--bootstrap` can be: the ends of an interval are known to a thousandth of its width by then,
/// and every resample is kept.
pub const RESAMPLES: Values<u32> = Values::within("a number of resamples", 0, 1_000_000);
/// What `--human-eval` can be: more pairs than a group of people looks at.
pub const COMPARISONS: Values<u32> = Values::within("a number of pairs", 1, 100_000);

/// What to score, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The folders to score.
    pub dirs: Vec<PathBuf>,
    /// The folders to compare with, each with the folder of the same place.
    pub against: Vec<PathBuf>,
    /// The bundle that brings CLIP, references, axes and chain.
    pub model: Option<PathBuf>,
    /// Folder of published weights.
    pub weights: Option<PathBuf>,
    /// Axes file [default: that beside the chain, then what the chain measures].
    pub axes: Option<PathBuf>,
    /// Classifier chain [default: the bundle's, then `faces`].
    pub chain: Option<String>,
    /// Target shares instead of the axes file's.
    pub target: Option<PathBuf>,
    /// Metrics by name [default: all that can be computed].
    pub metrics: Option<Vec<String>>,
    /// The training run's folder, which says what the LoRA was trained on.
    pub training: Option<PathBuf>,
    /// Resamples for an interval; 0 for none.
    pub bootstrap: u32,
    /// Seed of the resamples.
    pub seed: u64,
    /// How graphs are run.
    pub session: SessionOptions,
}

/// What a run reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// The pictures are found; now they are looked at.
    Start {
        /// How many there are.
        pictures: u64,
        /// Of how many captions.
        prompts: usize,
        /// The chain's name.
        chain: &'a str,
        /// The metrics' names.
        metrics: &'a [String],
    },
    /// Something the user should know.
    Note(&'a str),
    /// So many more pictures were looked at.
    Looked(u64),
    /// All were looked at; now the intervals are computed.
    Assessing,
}

/// The result of a run: the scores, and what a report shows beside them.
#[derive(Debug)]
pub struct Scored {
    /// The scores.
    pub scores: Scores,
    /// The pictures and their places.
    pub population: Population,
    /// What was seen of them.
    pub looks: Looks,
    /// What was computed: the axes and the metrics.
    pub metrics: Metrics,
}
