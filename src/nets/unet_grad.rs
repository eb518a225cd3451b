//! The training graph: reference forward, policy forward and per-sample LoRA gradients in one.
//!
//! Both forwards are calls of the same function, without and with LoRA. What they share (time and
//! pooled-text embeddings, the text's base keys and values, everything before the first layer with
//! LoRA) is one set of nodes after the graph's common subexpressions are merged, and the backward
//! pass stops where no factor lies below. The PopAlign loss weighs samples by numbers that are known
//! only once the whole batch has run, so gradients come out per sample.

use std::rc::Rc;

use super::graphs::{Options, Timestep, UnetGraph, unet_inputs};
use super::unet::{self, UnetConfig};
use super::{Lora, Result};
use crate::graph::{DType, Data, Graph, Value, gradients};
use crate::weights::Scope;

/// An input of graphs with gradient checkpointing, true by default and to be left so: it keeps the
/// runtime from merging a block's second computation with its first.
pub(super) const CHECKPOINT_GATE: &str = "checkpoint_gate";

/// `unet_grad`: the inputs of the UNet with `timestep` `[B]`, `target` [B, C, h, w] and the LoRA
/// inputs, to `mse` and `ref_mse` `[B]` f32 (means over C·h·w of the squared error with and without
/// LoRA) and `grad.<lora input>` [B, ..] f32, the gradient of each sample's `mse`.
///
/// Without LoRA in the options the default one is used: there is nothing else to differentiate.
///
/// # Errors
/// As [`unet::build`]; a LoRA target that names no linear layer.
pub fn unet_grad(config: &UnetConfig, w: &Scope, options: &Options) -> Result<UnetGraph> {
    let mut g = Graph::new();
    let w = options.params(w);
    let inputs = unet_inputs(&mut g, config, options, Timestep::PerSample)?;
    let mut shape = g.shape(inputs.sample).to_vec();
    shape[1] = config.out_channels.into();
    let target = g.input("target", DType::F32, &shape)?;
    let batch = shape[0].clone();
    if options.checkpointing {
        let gate = Data::Inline([1].into());
        let gate = g.input_with_default(CHECKPOINT_GATE, DType::Bool, &[], gate)?;
        g.checkpoint_with(gate);
    }

    let spec = options.lora.clone().unwrap_or_default();
    let lora = Rc::new(Lora::new(&mut g, spec, Some(batch.clone()))?);
    let reference = unet::build(&mut g, config, &w, &inputs)?;
    let ref_mse = squared_error(&mut g, reference, target)?;
    let policy = unet::build(&mut g, config, &w.with_lora(lora.clone()), &inputs)?;
    let mse = squared_error(&mut g, policy, target)?;
    lora.check_targets()?;

    let one = g.scalar(1.0);
    let seed = g.expand(one, std::slice::from_ref(&batch))?;
    let sites = lora.sites();
    let wanted: Vec<Value> = sites.iter().flat_map(|site| site.factors).collect();
    let found = gradients(&mut g, &[(mse, seed)], &wanted)?;

    g.output("mse", mse)?;
    g.output("ref_mse", ref_mse)?;
    let names = sites
        .iter()
        .flat_map(|site| [site.module.input_a(), site.module.input_b()]);
    for ((name, factor), gradient) in names.zip(wanted).zip(found) {
        let gradient = match gradient {
            Some(gradient) => g.cast(gradient, DType::F32)?,
            None => {
                let zero = g.scalar(0.0);
                let shape = g.shape(factor).to_vec();
                g.expand(zero, &shape)?
            }
        };
        g.output(&format!("grad.{name}"), gradient)?;
    }
    g.optimize();
    Ok(UnetGraph {
        graph: g,
        lora: lora.modules(),
    })
}

/// Mean over channels and positions of the squared error, per sample and in f32: `[B]`.
fn squared_error(g: &mut Graph, prediction: Value, target: Value) -> Result<Value> {
    let prediction = g.cast(prediction, DType::F32)?;
    let error = g.sub(prediction, target)?;
    let square = g.mul(error, error)?;
    Ok(g.reduce_mean(square, &[1, 2, 3], false)?)
}
