//! The UNet, and the inputs that it shares with its training graph.

use std::rc::Rc;

use super::options::Options;
use crate::family::ports::unet as ports;
use crate::graph::{DType, Dim, Graph, Kind, Value};
use crate::lora::LoraModule;
use crate::nets::unet::{self, TextTime, UnetConfig, UnetInputs};
use crate::nets::{Lora, Result};
use crate::tensors::Scope;

/// A UNet graph and the layers whose LoRA factors it takes.
#[derive(Debug)]
pub struct UnetGraph {
    /// The graph.
    pub graph: Graph,
    /// Its LoRA layers in the order of its inputs.
    pub lora: Vec<LoraModule>,
}

/// The UNet: `sample` [B, C, h, w], `timestep` [] f32, `encoder_hidden_states` [B, S, D], with
/// added conditioning `text_embeds` [B, P] and `time_ids` [B, n], and the LoRA inputs, to
/// `out_sample` [B, C, h, w].
///
/// # Errors
/// As [`unet::build`]; a LoRA target that names no linear layer.
pub fn unet(config: &UnetConfig, w: &Scope, options: &Options) -> Result<UnetGraph> {
    let mut g = options.graph();
    let w = options.params(w);
    let inputs = unet_inputs(&mut g, config, options, Timestep::Shared)?;
    let Some(spec) = &options.lora else {
        let build = |g: &mut Graph| unet::build(g, config, &w, &inputs);
        return finish(g, options, build, Vec::new);
    };
    let lora = Rc::new(Lora::new(&mut g, spec.clone(), options.compute, None)?);
    let w = w.with_lora(lora.clone());
    let built = finish(
        g,
        options,
        |g| unet::build(g, config, &w, &inputs),
        || lora.modules(),
    )?;
    lora.check_targets()?;
    Ok(built)
}

fn finish(
    mut g: Graph,
    options: &Options,
    build: impl FnOnce(&mut Graph) -> Result<Value>,
    modules: impl FnOnce() -> Vec<LoraModule>,
) -> Result<UnetGraph> {
    let prediction = build(&mut g)?;
    g.output(ports::OUT_SAMPLE, prediction)?;
    options.finish(&mut g, Kind::Forward)?;
    Ok(UnetGraph {
        graph: g,
        lora: modules(),
    })
}

/// Whether the samples of a batch share their timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestep {
    /// [], as samplers step a whole batch.
    Shared,
    /// `[B]`, as training draws them.
    PerSample,
}

/// Adds the UNet's inputs.
pub(super) fn unet_inputs(
    g: &mut Graph,
    config: &UnetConfig,
    options: &Options,
    timestep: Timestep,
) -> Result<UnetInputs> {
    let [batch, height, width] = options.batch_and_size(g, config.size_multiple(), 1);
    let length = options.tokens(g);
    let compute = options.compute;
    let latent = [batch.clone(), config.in_channels.into(), height, width];
    let sample = g.input(ports::SAMPLE, compute, &latent)?;
    let times: &[Dim] = match timestep {
        Timestep::Shared => &[],
        Timestep::PerSample => std::slice::from_ref(&batch),
    };
    let timestep = g.input(ports::TIMESTEP, DType::F32, times)?;
    let text = [batch.clone(), length, config.text_width()?.into()];
    let encoder_hidden_states = g.input(ports::ENCODER_HIDDEN_STATES, compute, &text)?;
    let added = match config.text_time()? {
        None => None,
        Some(widths) => Some(added_inputs(g, options, &batch, widths)?),
    };
    Ok(UnetInputs {
        sample,
        timestep,
        encoder_hidden_states,
        added,
    })
}

fn added_inputs(
    g: &mut Graph,
    options: &Options,
    batch: &Dim,
    widths: TextTime,
) -> Result<(Value, Value)> {
    let pooled = widths.pooled(options.time_ids)?;
    let text_embeds = g.input(
        ports::TEXT_EMBEDS,
        options.compute,
        &[batch.clone(), pooled.into()],
    )?;
    let ids = [batch.clone(), options.time_ids.into()];
    let time_ids = g.input(ports::TIME_IDS, DType::F32, &ids)?;
    Ok((text_embeds, time_ids))
}
