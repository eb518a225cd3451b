//! What is chosen for a graph.

use crate::family::TIME_IDS;
use crate::family::ports::axes;
use crate::graph::{DType, Dim, Graph};
use crate::lora::LoraSpec;
use crate::nets::Params;
use crate::tensors::Scope;

/// How graphs are built.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Dtype of activations (but for what half precision would spoil: softmax, norms' statistics,
    /// time, losses and the training graph's LoRA branch stay f32) and of the latents, text
    /// embeddings and pictures that go in and out.
    /// Weights are stored as the checkpoint has them, whatever this is.
    pub compute: DType,
    /// LoRA inputs of the UNet graphs; none in the others.
    pub lora: Option<LoraSpec>,
    /// Number of `time_ids` of a UNet with added conditioning: 6, or 5 for the SDXL refiner.
    pub time_ids: u64,
    /// Whether `unet_grad` computes its blocks again for their gradient instead of keeping what is
    /// inside them: much less memory for a quarter more time.
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores at the planned sizes; attention is cut into as
    /// many parts as that takes.
    pub score_limit: Option<u64>,
    /// The sizes to lay graphs out for.
    pub plan: PlannedSizes,
}

/// The sizes that graphs are laid out for. They run at any others too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedSizes {
    /// Samples at once.
    pub batch: u64,
    /// Height and width of the latents.
    pub latent: [u64; 2],
}

impl Default for PlannedSizes {
    /// One picture of SDXL's size.
    fn default() -> Self {
        Self {
            batch: 1,
            latent: [128, 128],
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compute: DType::F32,
            lora: Some(LoraSpec::default()),
            time_ids: TIME_IDS as u64,
            checkpointing: false,
            score_limit: None,
            plan: PlannedSizes::default(),
        }
    }
}

impl Options {
    /// The weights of a network as its function takes them.
    pub(super) fn params<'a>(&self, w: &Scope<'a>) -> Params<'a> {
        Params::new(w.clone(), self.compute).with_score_limit(self.score_limit)
    }

    /// The sizes [B, ., h, w] of latents, or of pictures so many times larger.
    pub(super) fn batch_and_size(&self, g: &mut Graph, multiple_of: u64, factor: u64) -> [Dim; 3] {
        let [height, width] = self.plan.latent;
        let sizes = [
            (axes::BATCH, 1, self.plan.batch),
            (axes::HEIGHT, multiple_of, factor * height),
            (axes::WIDTH, multiple_of, factor * width),
        ];
        sizes.map(|(name, multiple_of, planned)| {
            let symbol = g.symbol(name, multiple_of);
            g.plan(symbol, planned);
            symbol.into()
        })
    }
}
