//! What is chosen for a graph.

use crate::family::TIME_IDS;
use crate::family::ports::axes;
use crate::graph::{DType, Dim, Graph, Kind, Operators};
use crate::lora::LoraSpec;
use crate::nets::{Params, Result};
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
    /// Makes graphs for one job: at the planned sizes only, of these operators, as a runtime runs them without
    /// passes of its own. LoRA inputs then have no default and no `lora_scale` beside them (whoever feeds B
    /// multiplies it), and are of the type that they are computed in.
    pub made_for: Option<Operators>,
}

/// The sizes that graphs are laid out for. They run at any others too, unless they are made for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedSizes {
    /// Samples at once.
    pub batch: u64,
    /// Height and width of the latents.
    pub latent: [u64; 2],
    /// Tokens of a caption.
    pub tokens: u64,
}

impl Default for PlannedSizes {
    /// One picture of SDXL's size.
    fn default() -> Self {
        Self {
            batch: 1,
            latent: [128, 128],
            tokens: 77,
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
            made_for: None,
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
        sizes.map(|(name, multiple_of, planned)| self.size(g, name, multiple_of, planned))
    }

    /// Samples at once.
    pub(super) fn batch(&self, g: &mut Graph) -> Dim {
        self.size(g, axes::BATCH, 1, self.plan.batch)
    }

    /// Tokens of a caption.
    pub(super) fn tokens(&self, g: &mut Graph) -> Dim {
        self.size(g, axes::SEQUENCE, 1, self.plan.tokens)
    }

    /// A size: a number in a graph that is made for one job, else a symbol with a plan.
    fn size(&self, g: &mut Graph, name: &str, multiple_of: u64, planned: u64) -> Dim {
        if self.made_for.is_some() {
            return planned.into();
        }
        let symbol = g.symbol(name, multiple_of);
        g.plan(symbol, planned);
        symbol.into()
    }

    /// An empty graph.
    pub(super) fn graph(&self) -> Graph {
        self.made_for.map_or_else(Graph::new, Graph::made_for)
    }

    /// What is done to every graph at its end.
    pub(super) fn finish(&self, g: &mut Graph, kind: Kind) -> Result<()> {
        g.optimize();
        g.without_bf16_gaps()?;
        Ok(g.specialise(kind)?)
    }
}
