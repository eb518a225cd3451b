//! CLIP's two towers, as transformers' `modeling_clip.py` has them.
//!
//! The text tower serves two purposes: it is the text encoder of every Stable Diffusion (there all
//! hidden states matter, SDXL reads the second to last), and with the vision tower it scores how
//! well a picture fits its caption.

mod config;

pub use config::{ClipConfig, ClipTextConfig, ClipVisionConfig};

use super::attention::attention;
use super::{Params, Result};
use crate::graph::{Binary, Conv, DType, Dim, Graph, Value};
use config::Layers;

/// Added to the scores of later tokens. Large enough that `exp` of it is exactly 0, and within
/// fp16's range, unlike the infinity that some runtimes turn into NaN.
const MASKED: f32 = -1e4;

/// What a text tower computes.
#[derive(Debug, Clone)]
pub struct TextOutputs {
    /// The input of each layer and the output of the last, before the final normalisation; [B, S,
    /// hidden].
    pub hidden_states: Vec<Value>,
    /// The last hidden state, normalised; [B, S, hidden].
    pub last_hidden_state: Value,
    /// `last_hidden_state` at the end-of-text token; [B, hidden].
    pub pooled: Value,
}

/// `CLIPTextModel`: `input_ids` [B, S] i64, S the model's `max_position_embeddings`.
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says.
pub fn text_model(
    g: &mut Graph,
    config: &ClipTextConfig,
    w: &Params,
    input_ids: Value,
) -> Result<TextOutputs> {
    // transformers 5 writes a plain text model without the prefix all others have.
    let w = if w.scope().contains_scope("text_model") {
        &w.pp("text_model")
    } else {
        w
    };
    let (width, length) = (config.hidden_size, config.max_position_embeddings);
    let embedded = w.within(g, "embeddings", |g, w| {
        let tokens = w
            .pp("token_embedding")
            .get(g, "weight", &[config.vocab_size, width])?;
        let positions = w
            .pp("position_embedding")
            .get(g, "weight", &[length, width])?;
        let tokens = g.gather(tokens, input_ids, 0)?;
        Ok(g.add(tokens, positions)?)
    })?;
    let mask = causal_mask(g, length, w.compute())?;
    let hidden_states = w.within(g, "encoder", |g, w| {
        encoder(g, &config.layers()?, w, embedded, Some(mask))
    })?;
    let last = hidden_states[hidden_states.len() - 1];
    let last_hidden_state = w.within(g, "final_layer_norm", |g, w| {
        w.layer_norm(g, last, width, config.layer_norm_eps)
    })?;
    let pooled = g.scoped("pooler", |g| pool(g, config, input_ids, last_hidden_state))?;
    Ok(TextOutputs {
        hidden_states,
        last_hidden_state,
        pooled,
    })
}

/// `text_projection`: [B, hidden] to [B, projection_dim].
///
/// # Errors
/// The weight is missing or of another shape.
pub fn text_projection(
    g: &mut Graph,
    config: &ClipTextConfig,
    w: &Params,
    pooled: Value,
) -> Result<Value> {
    let sizes = [config.hidden_size, config.projection_dim];
    projection(g, "text_projection", w, pooled, sizes)
}

/// From a tower's width to the space that both share.
///
/// transformers has a linear layer there, `text_projection.weight` [projection_dim, hidden];
/// open_clip a bare parameter `text_projection` [hidden, projection_dim].
fn projection(
    g: &mut Graph,
    name: &str,
    w: &Params,
    x: Value,
    [hidden, projected]: [u64; 2],
) -> Result<Value> {
    let bare = w.scope().contains(name);
    w.within(g, name, |g, w| {
        if bare {
            let weight = w.get(g, "", &[hidden, projected])?;
            return Ok(g.matmul(x, weight)?);
        }
        w.linear(g, x, hidden, projected, false)
    })
}

/// [S, S]: 0 up to the diagonal, [`MASKED`] after it.
fn causal_mask(g: &mut Graph, length: u64, compute: DType) -> Result<Value> {
    let n = length as usize;
    let mask: Vec<f32> = (0..n * n)
        .map(|i| if i % n > i / n { MASKED } else { 0.0 })
        .collect();
    let mask = g.constant(&mask, &[length, length]);
    Ok(g.cast(mask, compute)?)
}

/// The row of `hidden` [B, S, n] at each sentence's end-of-text token.
///
/// The end is the first highest id where the configuration has the old `eos_token_id` 2, else the
/// first `eos_token_id`. The row is picked by a product with a one-hot vector, which is exact and
/// runs on every execution provider.
fn pool(g: &mut Graph, config: &ClipTextConfig, ids: Value, hidden: Value) -> Result<Value> {
    let mark = if config.eos_token_id == 2 {
        g.cast(ids, DType::F32)?
    } else {
        let eos = g.integers(&[config.eos_token_id]);
        let is_eos = g.binary(Binary::Equal, ids, eos)?;
        g.cast(is_eos, DType::F32)?
    };
    let end = g.argmax(mark, 1)?;
    let (batch, length) = (g.shape(ids)[0].clone(), g.shape(ids)[1].clone());
    let end = g.reshape(end, &[batch.clone(), 1.into(), 1.into()])?;
    let count = length.fixed().unwrap_or(0) as i64;
    let positions = g.integers(&(0..count).collect::<Vec<_>>());
    let one_hot = g.binary(Binary::Equal, end, positions)?;
    let one_hot = g.cast(one_hot, g.dtype(hidden))?;
    let picked = g.matmul(one_hot, hidden)?;
    let width = g.shape(hidden)[2].clone();
    Ok(g.reshape(picked, &[batch, width])?)
}

/// `CLIPVisionModelWithProjection`: `pixels` [B, 3, image_size, image_size], normalised with CLIP's
/// mean and deviation, to `image_embeds` [B, projection_dim] (not normalised to length 1).
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says.
pub fn image_embeds(
    g: &mut Graph,
    config: &ClipVisionConfig,
    w: &Params,
    pixels: Value,
) -> Result<Value> {
    let width = config.hidden_size;
    let pooled = w.within(g, "vision_model", |g, w| {
        let embedded = w.within(g, "embeddings", |g, w| patches(g, config, w, pixels))?;
        let normal = w.within(g, "pre_layrnorm", |g, w| {
            w.layer_norm(g, embedded, width, config.layer_norm_eps)
        })?;
        let states = w.within(g, "encoder", |g, w| {
            encoder(g, &config.layers()?, w, normal, None)
        })?;
        let class = g.slice(states[states.len() - 1], 1, 0, 1)?;
        let batch = g.shape(class)[0].clone();
        let class = g.reshape(class, &[batch, width.into()])?;
        w.within(g, "post_layernorm", |g, w| {
            w.layer_norm(g, class, width, config.layer_norm_eps)
        })
    })?;
    let sizes = [width, config.projection_dim];
    projection(g, "visual_projection", w, pooled, sizes)
}

/// `CLIPVisionEmbeddings`: the class token and one token per patch, [B, 1 + patches, hidden].
fn patches(g: &mut Graph, config: &ClipVisionConfig, w: &Params, pixels: Value) -> Result<Value> {
    let (width, size) = (config.hidden_size, config.patch_size);
    let grid = w.within(g, "patch_embedding", |g, w| {
        w.conv(
            g,
            pixels,
            (config.num_channels, width),
            size,
            Conv::new(size, 0),
            false,
        )
    })?;
    let batch = g.shape(grid)[0].clone();
    let count = config.patches();
    let flat = g.reshape(grid, &[batch.clone(), width.into(), count.into()])?;
    let tokens = g.transpose(flat, &[0, 2, 1])?;
    let class = w.get(g, "class_embedding", &[width])?;
    let class = g.expand(class, &[batch, Dim::from(1_u64), width.into()])?;
    let joined = g.concat(&[class, tokens], 1)?;
    let positions = w
        .pp("position_embedding")
        .get(g, "weight", &[count + 1, width])?;
    Ok(g.add(joined, positions)?)
}

/// `CLIPEncoder`: the input of each layer and the output of the last.
fn encoder(
    g: &mut Graph,
    layers: &Layers,
    w: &Params,
    x: Value,
    mask: Option<Value>,
) -> Result<Vec<Value>> {
    let mut states = vec![x];
    for index in 0..layers.count {
        let before = states[states.len() - 1];
        let after = w.within(g, format_args!("layers.{index}"), |g, w| {
            encoder_layer(g, layers, w, before, mask)
        })?;
        states.push(after);
    }
    Ok(states)
}

/// `CLIPEncoderLayer`.
fn encoder_layer(
    g: &mut Graph,
    layers: &Layers,
    w: &Params,
    x: Value,
    mask: Option<Value>,
) -> Result<Value> {
    let &Layers {
        width,
        inner,
        epsilon,
        ..
    } = layers;
    let normal = w.within(g, "layer_norm1", |g, w| w.layer_norm(g, x, width, epsilon))?;
    let attended = w.within(g, "self_attn", |g, w| {
        let mut project =
            |name: &str, x: Value| w.within(g, name, |g, w| w.linear(g, x, width, width, true));
        let qkv = [
            project("q_proj", normal)?,
            project("k_proj", normal)?,
            project("v_proj", normal)?,
        ];
        let mixed = attention(g, qkv, layers.heads, mask, w.score_limit())?;
        w.within(g, "out_proj", |g, w| w.linear(g, mixed, width, width, true))
    })?;
    let x = g.add(x, attended)?;
    let normal = w.within(g, "layer_norm2", |g, w| w.layer_norm(g, x, width, epsilon))?;
    let transformed = w.within(g, "mlp", |g, w| {
        let hidden = w.within(g, "fc1", |g, w| w.linear(g, normal, width, inner, true))?;
        let hidden = layers.activation.apply(g, hidden)?;
        w.within(g, "fc2", |g, w| w.linear(g, hidden, inner, width, true))
    })?;
    Ok(g.add(x, transformed)?)
}
