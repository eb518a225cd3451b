//! `Transformer2DModel` (diffusers `models/transformers/transformer_2d.py`) and its
//! `BasicTransformerBlock` (`models/attention.py`): where the text enters the picture.

use crate::graph::{Conv, Graph, Segment, Value};
use crate::nets::attention::attention;
use crate::nets::{Params, Result};

/// The group normalisation's epsilon is not configurable in diffusers.
const GROUP_EPSILON: f32 = 1e-6;
/// Nor is the layer normalisations'.
const LAYER_EPSILON: f32 = 1e-5;
/// The feed-forward layer is this much wider.
const EXPANSION: u64 = 4;

/// Sizes of one transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transformer {
    pub(super) channels: u64,
    pub(super) heads: u64,
    pub(super) layers: u64,
    pub(super) groups: u64,
    pub(super) text_width: u64,
    /// Linear layers around the blocks instead of 1×1 convolutions.
    pub(super) linear_projection: bool,
}

/// `Transformer2DModel`: `x` [B, C, h, w], `text` [B, S, text_width].
pub(super) fn transformer(
    g: &mut Graph,
    w: &Params,
    t: &Transformer,
    x: Value,
    text: Value,
) -> Result<Value> {
    let picture = g.shape(x).to_vec();
    let c = t.channels;
    let normal = w.within(g, "norm", |g, w| {
        w.group_norm(g, x, c, t.groups, GROUP_EPSILON)
    })?;
    let (batch, positions) = (picture[0].clone(), picture[2].times(&picture[3]));
    let flat = [batch, c.into(), positions];
    let project = |g: &mut Graph, name: &str, x: Value| {
        w.within(g, name, |g, w| {
            if t.linear_projection {
                w.linear(g, x, c, c, true)
            } else {
                w.conv(g, x, (c, c), 1, Conv::new(1, 0), true)
            }
        })
    };
    let tokens = if t.linear_projection {
        let columns = g.reshape(normal, &flat)?;
        let rows = g.transpose(columns, &[0, 2, 1])?;
        project(g, "proj_in", rows)?
    } else {
        let projected = project(g, "proj_in", normal)?;
        let columns = g.reshape(projected, &flat)?;
        g.transpose(columns, &[0, 2, 1])?
    };
    let mut tokens = tokens;
    for layer in 0..t.layers {
        tokens = w.within(g, format_args!("transformer_blocks.{layer}"), |g, w| {
            g.checkpointed(Segment::Block, |g| block(g, w, t, tokens, text))
        })?;
    }
    let output = if t.linear_projection {
        let projected = project(g, "proj_out", tokens)?;
        let columns = g.transpose(projected, &[0, 2, 1])?;
        g.reshape(columns, &picture)?
    } else {
        let columns = g.transpose(tokens, &[0, 2, 1])?;
        let shaped = g.reshape(columns, &picture)?;
        project(g, "proj_out", shaped)?
    };
    Ok(g.add(output, x)?)
}

/// `BasicTransformerBlock`: attention among the picture's positions, to the text, feed-forward.
fn block(g: &mut Graph, w: &Params, t: &Transformer, x: Value, text: Value) -> Result<Value> {
    let c = t.channels;
    let normalised = |g: &mut Graph, name: &str, x: Value| {
        w.within(g, name, |g, w| w.layer_norm(g, x, c, LAYER_EPSILON))
    };
    let normal = normalised(g, "norm1", x)?;
    let own = w.within(g, "attn1", |g, w| attend(g, w, t, normal, (normal, c)))?;
    let x = g.add(own, x)?;
    let normal = normalised(g, "norm2", x)?;
    let cross = w.within(g, "attn2", |g, w| {
        attend(g, w, t, normal, (text, t.text_width))
    })?;
    let x = g.add(cross, x)?;
    let normal = normalised(g, "norm3", x)?;
    let fed = w.within(g, "ff", |g, w| feed_forward(g, w, c, normal))?;
    Ok(g.add(fed, x)?)
}

/// `Attention` with `AttnProcessor2_0`: queries from `x`, keys and values from the source.
fn attend(
    g: &mut Graph,
    w: &Params,
    t: &Transformer,
    x: Value,
    (source, width): (Value, u64),
) -> Result<Value> {
    let c = t.channels;
    let q = w.within(g, "to_q", |g, w| w.linear(g, x, c, c, false))?;
    let k = w.within(g, "to_k", |g, w| w.linear(g, source, width, c, false))?;
    let v = w.within(g, "to_v", |g, w| w.linear(g, source, width, c, false))?;
    let mixed = attention(g, [q, k, v], t.heads, None, w.score_limit())?;
    w.within(g, "to_out.0", |g, w| w.linear(g, mixed, c, c, true))
}

/// `FeedForward` with GEGLU: half of a wide projection gates the other half.
fn feed_forward(g: &mut Graph, w: &Params, c: u64, x: Value) -> Result<Value> {
    let inner = EXPANSION * c;
    let [value, gate] = w.within(g, "net.0.proj", |g, w| w.linear_halves(g, x, c, inner))?;
    let gated = g.checkpointed(Segment::Activation, |g| {
        let gate = g.gelu(gate)?;
        g.mul(value, gate)
    })?;
    w.within(g, "net.2", |g, w| w.linear(g, gated, inner, c, true))
}
