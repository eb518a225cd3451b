//! The optimizers that `--optimizer` chooses from. What each computes, and how, is the device's
//! ([`crate::device`]): its moments, its kernel and its twin.

use serde::{Deserialize, Serialize};

use crate::device::{Layout, Moments, Prodigy};

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW with single-precision moments
    Adamw,
    /// AdamW with moments in eight bits, as bitsandbytes': a quarter of their memory
    Adamw8bit,
    /// Prodigy: AdamW that estimates its step size; --lr is a factor on it
    Prodigy,
}

impl Optimizer {
    /// The learning rate where none is given.
    pub fn lr(self) -> f64 {
        match self {
            // What diffusers' Diffusion-DPO example trains an SDXL LoRA of rank 8 with.
            Self::Adamw | Self::Adamw8bit => 1e-5,
            Self::Prodigy => 1.0,
        }
    }

    /// The moments that a run starts with, from parameters `p`.
    pub fn moments(self, layout: &Layout, p: &[f32]) -> Moments<Vec<f32>, Vec<u8>> {
        match self {
            Self::Adamw => Moments::zeros(layout),
            Self::Adamw8bit => Moments::blockwise_zeros(layout),
            Self::Prodigy => Moments::Prodigy(Prodigy::new(p)),
        }
    }
}
