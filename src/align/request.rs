//! What a run is asked for, what it says, and how it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{SavePlan, Skipped};
use super::config::Config;
use super::log::Line;
use super::made::Making;
use super::online::{Round, Studio};
use super::validation::{Record, Validation};
use crate::base::LeftOut;
use crate::diffusion::lost::Lost;
use crate::runtime::SessionOptions;

/// Where pairs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairSource {
    /// Drawn from the data sets.
    Drawn {
        /// The axes file with the target shares; the data set's or the bundle's own by default.
        axes: Option<PathBuf>,
        /// Whether neutral pictures may lack the verdicts that decide which set of a draw wins.
        unfiltered: bool,
    },
    /// A file of pairs.
    File(PathBuf),
    /// Nowhere: the run draws its own pictures.
    Online {
        /// The axes file with the target shares, as above.
        axes: Option<PathBuf>,
    },
}

/// How a run is carried out; nothing of this is meant to change its numbers.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Provider, device and threads.
    pub session: SessionOptions,
    /// How training graphs are made.
    pub making: Making,
    /// Samples the network takes at once; the whole batch by default.
    pub micro_batch: Option<usize>,
    /// Bytes of gradients kept until the errors of the whole batch are known; all by default.
    pub grad_memory: Option<u64>,
    /// Steps between checkpoints.
    pub save_every: u32,
    /// Checkpoints kept.
    pub keep: usize,
    /// Whether to go on with a run that is in the output folder.
    pub resume: bool,
    /// Folder for a file per step with everything of it.
    pub trace: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The bundle.
    pub model: PathBuf,
    /// The data sets, at least one.
    pub data: Vec<PathBuf>,
    /// The output folder.
    pub out: PathBuf,
    /// The pairs.
    pub pairs: PairSource,
    /// A LoRA to go on from, file or folder.
    pub lora_from: Option<PathBuf>,
    /// Pictures drawn and scored while training goes on.
    pub validate: Option<Arc<dyn Validation>>,
    /// Who draws the pictures of rounds, in a run of some.
    pub studio: Option<Arc<dyn Studio>>,
    /// What the numbers depend on.
    pub config: Config,
    /// What they don't.
    pub environment: Environment,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Training is about to start or go on.
    Start {
        /// Where the steps are computed.
        device: String,
        /// Processes that share the run.
        ranks: usize,
        /// Updates done before.
        done: u32,
        /// Updates in all.
        steps: u32,
        /// Trained parameters.
        parameters: usize,
        /// Pairs in the list.
        pairs: usize,
    },
    /// A subject that gives no pairs.
    LeftOut(&'a str),
    /// An axis whose target the winners can't follow, and why.
    OffTarget(&'a str),
    /// Pictures of the data sets that the filter dropped, and that don't train.
    Dropped(&'a LeftOut),
    /// A checkpoint that was passed over.
    Skipped(&'a Skipped),
    /// A step is done.
    Step(&'a Line),
    /// Captions of validation are too long for the text encoders and lose their ends.
    Truncated(&'a Lost),
    /// Pictures are about to be drawn for validation, so many after so many updates.
    Validating {
        /// Updates done.
        step: u32,
        /// Pictures to draw.
        pictures: usize,
    },
    /// What they showed.
    Validated(&'a Record),
    /// A round's pictures are about to be drawn.
    Drawing {
        /// The round.
        round: Round,
        /// Pictures to draw.
        pictures: usize,
    },
    /// What they showed.
    Drawn(Round, &'a Record),
    /// A checkpoint is complete.
    Saved(&'a Path),
}

/// How a run ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All steps are done and the LoRA is written.
    Done,
    /// A validation after so many updates met the target, and the LoRA is written.
    Reached(u32),
    /// The user interrupted after so many updates; they are saved.
    Interrupted(u32),
}

impl Request {
    pub(super) fn plan(&self) -> SavePlan {
        SavePlan {
            every: self.environment.save_every.max(1),
            steps: self.config.steps,
            keep: self.environment.keep.max(1),
        }
    }
}
