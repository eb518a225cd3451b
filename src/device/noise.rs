//! The operands of a diffusion.

use crate::random::Purpose;

/// Arguments of a diffusion (q-sample) of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Diffuse<'a> {
    /// Seed of the noise.
    pub seed: u64,
    /// Purpose of the noise.
    pub purpose: Purpose,
    /// Step word of the address.
    pub step: u32,
    /// Elements of one sample.
    pub elements: usize,
    /// The two id words of each sample's noise address.
    pub addresses: &'a [(u32, u32)],
    /// sqrt(alpha_bar) of each sample's time step.
    pub signal: &'a [f32],
    /// sqrt(1 - alpha_bar) of each sample's time step.
    pub sigma: &'a [f32],
    /// Whether the network predicts v instead of epsilon.
    pub v_prediction: bool,
}

/// A diffused batch, each [batch, elements].
#[derive(Debug)]
pub struct Diffused<B> {
    /// Standard normal noise.
    pub noise: B,
    /// Noisy latents.
    pub sample: B,
    /// What the network is to predict.
    pub target: B,
}
