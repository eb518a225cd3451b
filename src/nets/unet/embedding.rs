//! What the residual blocks are told about time, and in SDXL about the pooled text and the
//! picture's size (diffusers `models/embeddings.py`: `Timesteps`, `TimestepEmbedding`).

use super::config::UnetConfig;
use crate::graph::{DType, Dim, Graph, Unary, Value};
use crate::nets::config::Config;
use crate::nets::{Params, Result};

/// Longest period of the sinusoids.
const MAX_PERIOD: f32 = 10000.0;

/// The embedding all residual blocks share, already activated: [1 or B, time_embed_dim].
///
/// Each block activates it before its own projection; here that is done once. `timestep` and `added`
/// are the UNet's inputs of those names.
pub(super) fn time_embedding(
    g: &mut Graph,
    config: &UnetConfig,
    w: &Params,
    timestep: Value,
    added: Option<(Value, Value)>,
) -> Result<Value> {
    let width = config.block_out_channels[0];
    let total = config.time_embed_dim();
    let batch = g
        .shape(timestep)
        .first()
        .cloned()
        .unwrap_or_else(|| Dim::from(1_u64));
    let time = g.reshape(timestep, &[batch, 1.into()])?;
    let features = sinusoids(g, config, time, width)?;
    let features = g.cast(features, w.compute())?;
    let mut temb = w.within(g, "time_embedding", |g, w| {
        timestep_embedding(g, w, features, width, total)
    })?;
    if let (Some(widths), Some((text_embeds, time_ids))) = (config.text_time()?, added) {
        let [batch, count] = [g.shape(time_ids)[0].clone(), g.shape(time_ids)[1].clone()];
        let ids = g.reshape(time_ids, &[batch.clone(), count.clone(), 1.into()])?;
        let ids = sinusoids(g, config, ids, widths.time_features)?;
        let ids = g.reshape(ids, &[batch, count.times(&widths.time_features.into())])?;
        let ids = g.cast(ids, w.compute())?;
        let joined = g.concat(&[text_embeds, ids], 1)?;
        let added = w.within(g, "add_embedding", |g, w| {
            timestep_embedding(g, w, joined, widths.total, total)
        })?;
        temb = g.add(temb, added)?;
    }
    Ok(g.silu(temb)?)
}

/// `get_timestep_embedding`: x [.., 1] to [.., features], in f32 whatever the network computes in.
fn sinusoids(g: &mut Graph, config: &UnetConfig, x: Value, features: u64) -> Result<Value> {
    UnetConfig::require(features.is_multiple_of(2), "block_out_channels", || {
        format!("{features} time features can't be halved into sines and cosines")
    })?;
    debug_assert_eq!(g.dtype(x), DType::F32, "time is not rounded");
    let half = features / 2;
    // torch's order of operations, so that each frequency is the same fp32 number.
    let rate = -MAX_PERIOD.ln();
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = rate * i as f32 / (half as f32 - config.freq_shift);
            f64::from(exponent).exp() as f32
        })
        .collect();
    let frequencies = g.constant(&frequencies, &[half]);
    let angles = g.mul(x, frequencies)?;
    let sin = g.unary(Unary::Sin, angles)?;
    let cos = g.unary(Unary::Cos, angles)?;
    let parts = if config.flip_sin_to_cos {
        [cos, sin]
    } else {
        [sin, cos]
    };
    let axis = g.rank(angles) - 1;
    Ok(g.concat(&parts, axis)?)
}

/// `TimestepEmbedding`: two linear layers with SiLU between.
fn timestep_embedding(g: &mut Graph, w: &Params, x: Value, inp: u64, out: u64) -> Result<Value> {
    let hidden = w.within(g, "linear_1", |g, w| w.linear(g, x, inp, out, true))?;
    let hidden = g.silu(hidden)?;
    w.within(g, "linear_2", |g, w| w.linear(g, hidden, out, out, true))
}
