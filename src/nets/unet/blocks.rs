//! The UNet's down, middle and up blocks (diffusers `models/unets/unet_2d_blocks.py`).

use super::config::{Block, MidBlock, UnetConfig};
use super::transformer::{Transformer, transformer};
use crate::graph::{Graph, Segment, Value};
use crate::nets::resblock::{Residual, halving, residual};
use crate::nets::{Params, Result};

/// The outputs of the down path, which the up path takes back last first.
#[derive(Debug, Default)]
pub(super) struct Skips(Vec<(Value, u64)>);

impl Skips {
    /// Remembers a value and its channels.
    pub(super) fn push(&mut self, x: Value, channels: u64) {
        self.0.push((x, channels));
    }
}

/// What one resolution's blocks have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    channels: u64,
    layers: u64,
    attention: Transformer,
    groups: u64,
    epsilon: f32,
    temb: Value,
    temb_width: u64,
    text: Value,
    /// Padding of the downsampling convolution.
    downsample_padding: u64,
    /// Whether this is the smallest resolution, which isn't halved, or the largest, which isn't
    /// doubled.
    innermost: bool,
    outermost: bool,
}

impl Stage {
    /// The resolution of down block `block`.
    pub(super) fn new(config: &UnetConfig, block: usize, temb: Value, text: Value) -> Self {
        let channels = config.block_out_channels[block];
        let attention = Transformer {
            channels,
            heads: config.attention_head_dim.at(block),
            layers: config.transformer_layers_per_block.at(block),
            groups: config.norm_num_groups,
            text_width: config.cross_attention_dim.at(block),
            linear_projection: config.use_linear_projection,
        };
        Self {
            channels,
            layers: config.layers_per_block.at(block),
            attention,
            groups: config.norm_num_groups,
            epsilon: config.norm_eps,
            temb,
            temb_width: config.time_embed_dim(),
            text,
            downsample_padding: config.downsample_padding,
            innermost: block + 1 == config.block_out_channels.len(),
            outermost: block == 0,
        }
    }

    fn resnet(&self, g: &mut Graph, w: &Params, index: u64, x: Value, inp: u64) -> Result<Value> {
        self.scaled_resnet(g, w, index, (x, inp), 1.0)
    }

    fn scaled_resnet(
        &self,
        g: &mut Graph,
        w: &Params,
        index: u64,
        (x, inp): (Value, u64),
        output_scale: f32,
    ) -> Result<Value> {
        let sizes = Residual {
            inp,
            out: self.channels,
            groups: self.groups,
            epsilon: self.epsilon,
            output_scale,
        };
        w.within(g, format_args!("resnets.{index}"), |g, w| {
            let temb = Some((self.temb, self.temb_width));
            g.checkpointed(Segment::Block, |g| residual(g, w, &sizes, x, temb))
        })
    }

    fn attend(
        &self,
        g: &mut Graph,
        w: &Params,
        kind: Block,
        index: u64,
        x: Value,
    ) -> Result<Value> {
        match kind {
            Block::Plain => Ok(x),
            Block::CrossAttention => w.within(g, format_args!("attentions.{index}"), |g, w| {
                transformer(g, w, &self.attention, x, self.text)
            }),
        }
    }
}

/// `DownBlock2D` or `CrossAttnDownBlock2D`.
pub(super) fn down(
    g: &mut Graph,
    w: &Params,
    stage: &Stage,
    kind: Block,
    mut x: Value,
    mut inp: u64,
    skips: &mut Skips,
) -> Result<Value> {
    for layer in 0..stage.layers {
        x = stage.resnet(g, w, layer, x, inp)?;
        x = stage.attend(g, w, kind, layer, x)?;
        skips.push(x, stage.channels);
        inp = stage.channels;
    }
    if !stage.innermost {
        x = w.within(g, "downsamplers.0.conv", |g, w| {
            w.conv(g, x, (inp, inp), 3, halving(stage.downsample_padding), true)
        })?;
        skips.push(x, inp);
    }
    Ok(x)
}

/// `UNetMidBlock2DCrossAttn`, or `UNetMidBlock2D` as the UNet uses it (one residual block).
pub(super) fn mid(
    g: &mut Graph,
    w: &Params,
    stage: &Stage,
    kind: MidBlock,
    scale: f32,
    x: Value,
) -> Result<Value> {
    let c = stage.channels;
    let x = stage.scaled_resnet(g, w, 0, (x, c), scale)?;
    if kind != MidBlock::CrossAttention {
        return Ok(x);
    }
    let x = stage.attend(g, w, Block::CrossAttention, 0, x)?;
    stage.scaled_resnet(g, w, 1, (x, c), scale)
}

/// `UpBlock2D` or `CrossAttnUpBlock2D`: one layer more than the down block has.
pub(super) fn up(
    g: &mut Graph,
    w: &Params,
    stage: &Stage,
    kind: Block,
    mut x: Value,
    mut inp: u64,
    skips: &mut Skips,
) -> Result<Value> {
    for layer in 0..=stage.layers {
        if let Some((skip, channels)) = skips.0.pop() {
            x = g.concat(&[x, skip], 1)?;
            inp += channels;
        }
        x = stage.resnet(g, w, layer, x, inp)?;
        x = stage.attend(g, w, kind, layer, x)?;
        inp = stage.channels;
    }
    if stage.outermost {
        return Ok(x);
    }
    w.within(g, "upsamplers.0.conv", |g, w| {
        let doubled = g.upsample_nearest_2x(x)?;
        w.same_conv(g, doubled, (inp, inp), 3)
    })
}
