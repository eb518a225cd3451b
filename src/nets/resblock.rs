//! What the UNet and the VAE share: `ResnetBlock2D` (diffusers `models/resnet.py`) and halving.

use super::{Params, Result};
use crate::graph::{Conv, Graph, Segment, Value};

/// Sizes of a residual block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Residual {
    pub(super) inp: u64,
    pub(super) out: u64,
    pub(super) groups: u64,
    pub(super) epsilon: f32,
    /// The sum is divided by this.
    pub(super) output_scale: f32,
}

/// `x` [B, inp, h, w] to [B, out, h, w]; `temb` is the activated time embedding [1 or B, width]
/// with its width, which the VAE has not.
pub(super) fn residual(
    g: &mut Graph,
    w: &Params,
    r: &Residual,
    x: Value,
    temb: Option<(Value, u64)>,
) -> Result<Value> {
    let h = normal_silu(g, w, "norm1", x, r.inp, r)?;
    let mut h = w.within(g, "conv1", |g, w| w.same_conv(g, h, (r.inp, r.out), 3))?;
    if let Some((temb, width)) = temb {
        let shift = w.within(g, "time_emb_proj", |g, w| {
            w.linear(g, temb, width, r.out, true)
        })?;
        let batch = g.shape(shift)[0].clone();
        let shift = g.reshape(shift, &[batch, r.out.into(), 1.into(), 1.into()])?;
        h = g.add(h, shift)?;
    }
    let h = normal_silu(g, w, "norm2", h, r.out, r)?;
    let h = w.within(g, "conv2", |g, w| w.same_conv(g, h, (r.out, r.out), 3))?;
    let shortcut = if r.inp == r.out {
        x
    } else {
        w.within(g, "conv_shortcut", |g, w| {
            w.conv(g, x, (r.inp, r.out), 1, Conv::new(1, 0), true)
        })?
    };
    let sum = g.add(shortcut, h)?;
    if r.output_scale == 1.0 {
        return Ok(sum);
    }
    let scale = g.scalar_like(sum, r.output_scale)?;
    Ok(g.div(sum, scale)?)
}

/// SiLU of a group normalisation.
fn normal_silu(
    g: &mut Graph,
    w: &Params,
    norm: &str,
    x: Value,
    channels: u64,
    r: &Residual,
) -> Result<Value> {
    g.checkpointed(Segment::Activation, |g| {
        let normal = w.within(g, norm, |g, w| {
            w.group_norm(g, x, channels, r.groups, r.epsilon)
        })?;
        Ok(g.silu(normal)?)
    })
}

/// `Downsample2D`'s convolution: stride 2, padded by `padding` all around or, if that is 0, by one
/// row below and one column to the right.
pub(super) fn halving(padding: u64) -> Conv {
    let pads = if padding == 0 {
        [0, 0, 1, 1]
    } else {
        [padding; 4]
    };
    Conv {
        strides: [2, 2],
        pads,
        group: 1,
    }
}
