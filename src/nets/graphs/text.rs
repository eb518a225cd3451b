//! Text encoders, and CLIP's text tower.

use super::options::Options;
use crate::family::ports::text as ports;
use crate::graph::{DType, Graph, Kind};
use crate::nets::clip::{self, ClipTextConfig};
use crate::nets::{Params, Result};
use crate::tensors::Scope;

/// `CLIPTextModel`, SD's text encoder: `input_ids` [B, S] i64 to `last_hidden_state`,
/// `pooler_output` and `hidden_states.0` to `hidden_states.N`.
///
/// # Errors
/// As [`clip::text_model`].
pub fn text_encoder(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, _| {
        g.output(ports::LAST_HIDDEN_STATE, outputs.last_hidden_state)?;
        g.output(ports::POOLER_OUTPUT, outputs.pooled)?;
        hidden_states(g, outputs)
    })
}

/// `CLIPTextModelWithProjection`, SDXL's second text encoder: `input_ids` [B, S] i64 to
/// `text_embeds` [B, projection_dim], `last_hidden_state` and `hidden_states.0` to `.N`.
///
/// # Errors
/// As [`clip::text_model`].
pub fn text_encoder_2(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, w| {
        let embeds = clip::text_projection(g, config, w, outputs.pooled)?;
        g.output(ports::TEXT_EMBEDS, embeds)?;
        g.output(ports::LAST_HIDDEN_STATE, outputs.last_hidden_state)?;
        hidden_states(g, outputs)
    })
}

/// The text tower of a `CLIPModel`: `input_ids` [B, S] i64 to `text_embeds` [B, projection_dim].
///
/// # Errors
/// As [`clip::text_model`].
pub fn clip_text(config: &ClipTextConfig, w: &Scope, options: &Options) -> Result<Graph> {
    text(config, w, options, |g, outputs, w| {
        let embeds = clip::text_projection(g, config, w, outputs.pooled)?;
        Ok(g.output(ports::TEXT_EMBEDS, embeds)?)
    })
}

fn text(
    config: &ClipTextConfig,
    w: &Scope,
    options: &Options,
    outputs: impl FnOnce(&mut Graph, &clip::TextOutputs, &Params) -> Result<()>,
) -> Result<Graph> {
    let mut g = options.graph();
    let w = options.params(w);
    let shape = [options.batch(&mut g), config.max_position_embeddings.into()];
    let ids = g.input(ports::INPUT_IDS, DType::I64, &shape)?;
    let result = clip::text_model(&mut g, config, &w, ids)?;
    outputs(&mut g, &result, &w)?;
    options.finish(&mut g, Kind::Forward)?;
    Ok(g)
}

fn hidden_states(g: &mut Graph, outputs: &clip::TextOutputs) -> Result<()> {
    for (index, &state) in outputs.hidden_states.iter().enumerate() {
        g.output(&ports::hidden_state(index), state)?;
    }
    Ok(())
}
