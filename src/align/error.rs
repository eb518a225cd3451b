//! What can go wrong in fine-tuning.

use std::path::PathBuf;

use super::watch;
use crate::base::hint::Foreign;

/// Why fine-tuning stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
    /// A tensor file.
    #[error(transparent)]
    Weights(#[from] crate::tensors::Error),
    /// A LoRA file.
    #[error(transparent)]
    Lora(#[from] crate::lora::Error),
    /// The LoRA that a run goes on from.
    #[error("cannot use --lora-from {}", path.display())]
    LoraFrom {
        /// The file.
        path: PathBuf,
        /// What is wrong with it (boxed, because it is large and rare).
        source: Box<crate::lora::Error>,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// A network's configuration.
    #[error(transparent)]
    Net(#[from] crate::nets::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] crate::data::dataset::Error),
    /// The axes file.
    #[error(transparent)]
    Axes(#[from] crate::prompts::axes::Error),
    /// The pairs.
    #[error(transparent)]
    Pairs(#[from] crate::data::pairs::Error),
    /// The noise schedule.
    #[error(transparent)]
    Schedule(#[from] crate::diffusion::schedule::Error),
    /// Validation, whoever does it.
    #[error(transparent)]
    Validation(Foreign),
    /// The device of the step.
    #[error(transparent)]
    Device(#[from] crate::device::Error),
    /// An option whose value can't be.
    #[error("--{option} {value}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        problem: String,
    },
    /// The rank does not fit the bundle.
    #[error("--lora {rank}: the bundle's training graph was exported for ranks up to {limit}")]
    Rank {
        /// The rank asked for.
        rank: usize,
        /// The bundle's.
        limit: u64,
    },
    /// Data set and bundle are of different models.
    #[error("the data set has {what} {data}, the training graph takes {graph}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// In the data set.
        data: String,
        /// In the graph.
        graph: String,
    },
    /// The empty caption, for `--caption-dropout`.
    #[error("--caption-dropout above 0 needs the empty caption, which the data set lacks")]
    Text(#[source] Box<crate::diffusion::text::Error>),
    /// Text encoders whose embeddings are not those of the data set.
    #[error(
        "--caption-dropout: the data set has {data}, the bundle's text encoders give {encoded}; 0 does \
         without the empty caption"
    )]
    EmptyCaption {
        /// In the data set.
        data: String,
        /// By the text encoders.
        encoded: String,
    },
    /// The output folder holds a run already.
    #[error("{} already holds a fine-tuning run", dir.display())]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// The output folder holds a run whose batch was counted in pictures.
    #[error(
        "{} already holds a run of an earlier pa-finetune, whose --batch counted pictures, not pairs",
        dir.display()
    )]
    InPictures {
        /// The folder.
        dir: PathBuf,
    },
    /// The output folder holds something that is not to be written over.
    #[error("{} already holds {problem}", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// What it is.
        problem: String,
    },
    /// Another process works on the folder.
    #[error("another process is fine-tuning into {}", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The run to be resumed has another configuration.
    #[error("{} was begun with another {key}: it has {was}, this run has {now}", path.display())]
    Changed {
        /// Its manifest.
        path: PathBuf,
        /// The configuration key.
        key: String,
        /// The folder's value.
        was: String,
        /// This run's value.
        now: String,
    },
    /// A file of the run that is not what this program writes.
    #[error(transparent)]
    Json(#[from] crate::base::json::Error),
    /// `--preserve` with nothing to draw from.
    #[error(
        "--preserve: {} has kept no picture whose caption names an identity, and none of a subject without pairs",
        dir.display()
    )]
    NothingToPreserve {
        /// The data set.
        dir: PathBuf,
    },
    /// A round whose pictures all were dropped.
    #[error(
        "round {round}: the chain saw nobody in any of its pictures ({}), so there is nothing to train on",
        dropped.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ")
    )]
    NobodySeen {
        /// The round, from 1.
        round: u32,
        /// Pictures dropped, by reason.
        dropped: std::collections::BTreeMap<String, usize>,
    },
    /// A sample whose numbers are not finite.
    #[error(
        "step {step}: unet_grad's `{output}` of picture {image_id} of caption {prompt_id:08x} (trained as \"{caption}\") is {value}; nothing of this step was applied"
    )]
    NonFinite {
        /// The step, from 1.
        step: u32,
        /// The output.
        output: String,
        /// Whether the graph computes in fp16.
        fp16: bool,
        /// The picture's number.
        image_id: u32,
        /// Its caption's id.
        prompt_id: u32,
        /// The label.
        caption: String,
        /// The number.
        value: f32,
    },
    /// A batch whose numbers are not finite though every sample's are.
    #[error("step {step}: the {what} is {value}; nothing of this step was applied")]
    NonFiniteBatch {
        /// The step, from 1.
        step: u32,
        /// Which number.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// A run whose numbers are finite and tell that it is lost.
    #[error(
        "step {step}: the run has run away: {doubt}, and so it was in each of the last {steps} steps; {}",
        match kept {
            Some(dir) => format!("the last good checkpoint is {}", dir.display()),
            None => "there is no checkpoint from before".to_owned(),
        },
        steps = doubt.steps()
    )]
    RanAway {
        /// The step, from 1.
        step: u32,
        /// What is wrong.
        doubt: watch::Doubt,
        /// Updates that were done when that began.
        since: u32,
        /// The newest checkpoint from before.
        kept: Option<PathBuf>,
    },
    /// The training graph runs in other memory than that of the device's buffers.
    #[error(
        "the training graph computes in {computes:?} memory, the factors are in {own:?} memory"
    )]
    Memory {
        /// Where the buffers lie.
        own: crate::runtime::Memory,
        /// Where the graph computes.
        computes: crate::runtime::Memory,
    },
    /// Ranks can't pass messages to each other.
    #[error("rank {rank}: {problem}")]
    Ranks {
        /// The rank that says so.
        rank: usize,
        /// What failed.
        problem: String,
    },
    /// Ranks whose LoRAs are not the same any more.
    #[error("after step {step} the LoRA of rank {rank} is not that of rank 0")]
    Diverged {
        /// Updates done.
        step: u32,
        /// The first rank that differs.
        rank: usize,
    },
}

impl From<crate::diffusion::text::Error> for Error {
    fn from(error: crate::diffusion::text::Error) -> Self {
        Self::Text(Box::new(error))
    }
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Exists { .. } => Some("add --resume to go on with it, or choose another --out"),
            Error::Foreign { .. } => Some("choose another --out"),
            Error::InPictures { .. } => Some(
                "it can't be gone on with: choose another --out, and give half the --batch for the same run",
            ),
            Error::Changed { .. } => {
                Some("repeat the options it was begun with, or choose another --out")
            }
            Error::LoraFrom { source, .. } => source.hint(),
            Error::Rank { .. } => Some("export with a higher pa-export --lora-rank"),
            Error::NonFinite { fp16: true, .. } => Some(
                "fp16 overflows at 65504: export with --dtype bf16 or fp32; a lower --lr helps if \
                 this comes late",
            ),
            Error::NonFinite { .. } | Error::NonFiniteBatch { .. } => Some(
                "a lower --lr helps if this comes late; if it comes at once, look at that picture",
            ),
            Error::RanAway { .. } => Some(
                "a lower --lr, a longer --warmup or a higher --beta helps; a checkpoint's folder holds its \
                 LoRA, and --save-every says how often there is one",
            ),
            Error::Pairs(crate::data::pairs::Error::Unjudged { .. }) => Some(
                "draw the data set with pa-datagen --filter CHAIN, or go on with --unfiltered: \
                 neutral pictures without verdicts then never win",
            ),
            Error::Diverged { .. } => Some(
                "all ranks need the same build, the same ONNX Runtime and the same kind of device",
            ),
            Error::Data(error) => error.hint(),
            Error::Bundle(error) => error.hint(),
            Error::Text(error) => match &**error {
                crate::diffusion::text::Error::Bundle(error) => error.hint(),
                _ => None,
            },
            Error::Validation(error) => error.hint(),
            Error::Runtime(error) => error.hint(),
            _ => None,
        }
    }
}

/// Result of fine-tuning.
pub type Result<T> = std::result::Result<T, Error>;
