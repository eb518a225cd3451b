//! What a run reports, and how it ends.

use std::collections::BTreeMap;

use super::times::Times;
use crate::data::manifest::Outcome;
use crate::diffusion::lost::Lost;
use crate::runtime::Ep;

/// What a run reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything was checked; drawing begins.
    Start {
        /// The execution provider.
        ep: Ep,
        /// Pictures of the whole data set.
        pictures: usize,
        /// Of these, what this run is to draw.
        todo: usize,
        /// Captions.
        captions: usize,
        /// Steps of a picture.
        steps: usize,
        /// Pictures drawn at once by each worker.
        batch: usize,
        /// Workers.
        workers: usize,
    },
    /// Prompts that stand in the list more than once; they count once.
    Repeated(usize),
    /// Files of the finished data set that are missing or damaged, and now made again.
    Damaged(&'a [String]),
    /// Pictures that share their noise with those that the LoRA was trained on.
    Shared {
        /// How many.
        pictures: usize,
        /// Pictures of the data set.
        of: usize,
    },
    /// Captions are too long for the text encoders and lose their ends.
    Truncated(&'a Lost),
    /// A caption was encoded.
    Encoded {
        /// Captions so far.
        done: usize,
        /// Captions in all.
        of: usize,
    },
    /// A worker made a step of so many pictures.
    Stepped(usize),
    /// A unit was written.
    Unit {
        /// Its number.
        unit: usize,
        /// Pictures kept.
        kept: usize,
        /// Pictures that the filter dropped, by reason.
        dropped: BTreeMap<String, usize>,
        /// What it took.
        times: Times,
        /// Pictures that are drawn in addition, in place of those that were dropped.
        more: usize,
    },
    /// Captions that the limit left with fewer pictures than asked for: each with how many passed the
    /// filter, and how many were asked for.
    Short(&'a [(&'a str, usize, usize)]),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The data set is whole.
    Complete(Outcome),
    /// This shard is done; so many units are for others.
    UnitsLeft(usize),
    /// All units are there; another run that is still at work will complete the data set.
    LeftToOthers,
    /// The user stopped it; so many units of this run are left.
    Interrupted(usize),
}
