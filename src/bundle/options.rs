//! What to export, and how.

use std::path::PathBuf;

use super::{Error, Part, Result, Target};
use crate::base::Values;
use crate::graph::DType;
use crate::lora::LoraSpec;

/// What `--batch` can be, to lay graphs out for: the estimates of larger ones would be of no machine.
pub const BATCHES: Values<u64> = Values::within("a number of pictures", 1, 1024);
/// What `--attention-memory` can be: up to 16 TiB, counted in bytes.
pub const SCORES: Values<u64> = Values::within("MiB", 1, 1 << 24);

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The parts [default: all that the checkpoint has networks for].
    pub parts: Option<Vec<Part>>,
    /// Whether the default parts include `unet_grad`.
    pub grad: bool,
    /// Type of activations: f32, f16 or bf16. Parts that can't or shouldn't be computed in half
    /// precision stay f32, see [`VaeConfig::compute`](crate::nets::vae::VaeConfig::compute).
    pub dtype: DType,
    /// Operators to use.
    pub target: Target,
    /// Whether weights of another type are written into the bundle converted, instead of being cast
    /// by the graphs.
    pub convert: bool,
    /// Rank and targets of the UNet's LoRA inputs.
    pub lora: LoraSpec,
    /// Whether the bundle may outlive the checkpoint.
    pub detached: bool,
    /// Whether every weight file is one of the bundle's own; it then may outlive the checkpoint too.
    pub copy: bool,
    /// A diffusers folder that has what the checkpoint lacks: networks, tokenizers.
    pub base: Option<PathBuf>,
    /// Take the weight files of this variant (`fp16`).
    pub variant: Option<String>,
    /// Adapters to add to the weights.
    pub merge: Vec<Adapter>,
    /// Whether `unet_grad` computes its blocks again for their gradient.
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores at the planned sizes.
    pub score_limit: Option<u64>,
    /// Pictures at once, and their width and height, to lay graphs out for [default: one, of the
    /// size the model was trained at].
    pub plan: Planned,
}

impl Options {
    /// Refuses what no checkpoint could be exported with, before anything is read or fetched.
    pub(super) fn check(&self) -> Result<()> {
        match (self.target, self.dtype) {
            (Target::Cuda, DType::BF16) => Err(Error::FusedBf16),
            _ => Ok(()),
        }
    }
}

/// An adapter to add to the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// A file, or a folder that holds one.
    pub file: PathBuf,
    /// What its change is multiplied by.
    pub scale: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: None,
            grad: true,
            dtype: DType::F32,
            target: Target::Plain,
            convert: false,
            lora: LoraSpec::default(),
            detached: false,
            copy: false,
            base: None,
            variant: None,
            merge: Vec::new(),
            checkpointing: false,
            score_limit: None,
            plan: Planned::default(),
        }
    }
}

/// The sizes to lay graphs out for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Pictures at once.
    pub batch: Option<u64>,
    /// Width and height in pixels.
    pub size: Option<[u64; 2]>,
}
