//! `UNet2DConditionModel` (diffusers `models/unets/unet_2d_condition.py`): the denoiser of the
//! SDXL and SD 1.5 families.

mod blocks;
mod config;
mod embedding;
mod transformer;

pub use config::{TextTime, UnetConfig, sample_size};

use super::{Params, Result};
use crate::graph::{Graph, Value};
use blocks::{Skips, Stage};
use config::MidBlock;

/// What the UNet is conditioned on.
#[derive(Debug, Clone, Copy)]
pub struct UnetInputs {
    /// Noisy latents [B, in_channels, h, w] in the compute dtype; h and w multiples of
    /// [`UnetConfig::size_multiple`].
    pub sample: Value,
    /// Timestep, f32: [] for the whole batch or `[B]`.
    pub timestep: Value,
    /// Text embeddings [B, S, cross_attention_dim] in the compute dtype.
    pub encoder_hidden_states: Value,
    /// `text_embeds` [B, P] in the compute dtype and `time_ids` [B, n] f32, for the SDXL kind.
    pub added: Option<(Value, Value)>,
}

/// The predicted noise (or velocity) [B, out_channels, h, w].
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says, or a configuration
/// that asks for what isn't built here.
pub fn build(g: &mut Graph, config: &UnetConfig, w: &Params, inputs: &UnetInputs) -> Result<Value> {
    let temb = embedding::time_embedding(g, config, w, inputs.timestep, inputs.added)?;
    let stages: Vec<Stage> = (0..config.block_out_channels.len())
        .map(|block| Stage::new(config, block, temb, inputs.encoder_hidden_states))
        .collect();
    let x = enter(g, config, w, inputs.sample)?;
    let mut skips = Skips::default();
    skips.push(x, config.block_out_channels[0]);
    let x = descend(g, config, w, &stages, x, &mut skips)?;
    let x = w.within(g, "mid_block", |g, w| match config.mid_block()? {
        MidBlock::None => Ok(x),
        kind => blocks::mid(
            g,
            w,
            &stages[stages.len() - 1],
            kind,
            config.mid_block_scale_factor,
            x,
        ),
    })?;
    let x = ascend(g, config, w, &stages, x, &mut skips)?;
    finish(g, config, w, x)
}

/// The first convolution.
fn enter(g: &mut Graph, config: &UnetConfig, w: &Params, mut x: Value) -> Result<Value> {
    if config.center_input_sample {
        let doubled = g.scale(x, 2.0)?;
        let one = g.scalar_like(x, 1.0)?;
        x = g.sub(doubled, one)?;
    }
    let channels = (config.in_channels, config.block_out_channels[0]);
    w.within(g, "conv_in", |g, w| {
        w.same_conv(g, x, channels, config.conv_in_kernel)
    })
}

/// The down blocks.
fn descend(
    g: &mut Graph,
    config: &UnetConfig,
    w: &Params,
    stages: &[Stage],
    mut x: Value,
    skips: &mut Skips,
) -> Result<Value> {
    for (block, stage) in stages.iter().enumerate() {
        let inp = config.block_out_channels[block.saturating_sub(1)];
        x = w.within(g, format_args!("down_blocks.{block}"), |g, w| {
            blocks::down(g, w, stage, config.down_block(block)?, x, inp, skips)
        })?;
    }
    Ok(x)
}

/// The up blocks, innermost first.
fn ascend(
    g: &mut Graph,
    config: &UnetConfig,
    w: &Params,
    stages: &[Stage],
    mut x: Value,
    skips: &mut Skips,
) -> Result<Value> {
    let mut inp = config.block_out_channels[stages.len() - 1];
    let outwards = config.block_out_channels.iter().zip(stages);
    for (index, (&channels, stage)) in outwards.rev().enumerate() {
        x = w.within(g, format_args!("up_blocks.{index}"), |g, w| {
            blocks::up(g, w, stage, config.up_block(index)?, x, inp, skips)
        })?;
        inp = channels;
    }
    Ok(x)
}

/// Normalisation, activation and the last convolution.
fn finish(g: &mut Graph, config: &UnetConfig, w: &Params, x: Value) -> Result<Value> {
    let width = config.block_out_channels[0];
    let normal = w.within(g, "conv_norm_out", |g, w| {
        w.group_norm(g, x, width, config.norm_num_groups, config.norm_eps)
    })?;
    let active = g.silu(normal)?;
    w.within(g, "conv_out", |g, w| {
        w.same_conv(
            g,
            active,
            (width, config.out_channels),
            config.conv_out_kernel,
        )
    })
}
