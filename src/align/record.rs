//! What a step says of itself, in short and in whole.

use crate::device::Summary;
use crate::diffusion::text::Embedding;

/// What a step says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The update's number, from 1.
    pub step: u32,
    /// Loss of the global batch, with the weighted part of preserved pictures.
    pub loss: f64,
    /// What the loss says of its pairs; none in a run without pairs.
    pub pairs: Option<Summary>,
    /// Share of the draws that ended with this step's pairs whose winning set has the higher mean implied
    /// reward; none where no draw ended.
    pub set_accuracy: Option<f64>,
    /// Loss of the preserved pictures, unweighted; none without any.
    pub preserve: Option<f64>,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate of this update.
    pub lr: f64,
    /// Prodigy's estimate of the step size, on which the learning rate is a factor.
    pub estimate: Option<f64>,
    /// Pictures the network saw.
    pub samples: usize,
}

/// Everything of one step, on the host, for whoever wants to compute it again.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Latents' dimensions: batch, C, h, w.
    pub shape: [usize; 4],
    /// Clean latents.
    pub latents: Vec<f32>,
    /// Noise.
    pub noise: Vec<f32>,
    /// Noisy latents.
    pub sample: Vec<f32>,
    /// What the network was to predict: of pictures of a round the moved target.
    pub target: Vec<f32>,
    /// Time steps.
    pub timestep: Vec<i64>,
    /// 1 for winners, 0 for losers, -1 for preserved pictures, 2 for those of a round.
    pub label: Vec<i64>,
    /// What each sample's term of the loss is multiplied with.
    pub scale: Vec<f32>,
    /// Of each picture of a round its advantage; empty in a run of pairs.
    pub advantage: Vec<f32>,
    /// Ids of the captions trained under, which name their embeddings in the data set.
    pub caption_id: Vec<i64>,
    /// Id and embeddings of the empty caption, where captions are dropped.
    pub empty: Option<(u32, Embedding)>,
    /// Errors with the LoRA.
    pub mse: Vec<f32>,
    /// Errors without it.
    pub ref_mse: Vec<f32>,
    /// Factors c_i.
    pub weight: Vec<f32>,
    /// Weighted sum of gradients before clipping.
    pub grad: Vec<f32>,
    /// Factors before the update.
    pub before: Vec<f32>,
    /// Factors after it.
    pub after: Vec<f32>,
}
