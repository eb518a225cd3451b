//! The training graph: reference forward, policy forward and per-sample LoRA gradients in one.
//!
//! Both forwards are calls of the same function, without and with LoRA. What they share (time and
//! pooled-text embeddings, the text's base keys and values, everything before the first layer with
//! LoRA) is one set of nodes after the graph's common subexpressions are merged, and the backward
//! pass stops where no factor lies below. The PopAlign loss weighs samples by numbers that are known
//! only once the whole batch has run, so gradients come out per sample.
//!
//! In half precision the adjoints would underflow: ∂mse/∂prediction is 2·error/(C·h·w), for SDXL's
//! 4×128×128 about 3e-5, where fp16 has begun to lose digits, and everything behind it is smaller.
//! There the backward pass is that of half the *sum* of squares, whose adjoint is the error itself
//! (of order 1 at any size of picture), and the finished gradients are multiplied by 2/(C·h·w) in
//! f32. For sizes that are powers of two, as usual, that is the loss scale of other trainers and
//! exact; for others it costs one f32 rounding. What still leaves fp16's range is found by whoever
//! reads the outputs, and named.

use std::rc::Rc;

use super::options::Options;
use super::unet::{Timestep, UnetGraph, unet_inputs};
use crate::family::ports::training;
use crate::graph::{DType, Data, Dim, Graph, Kind, Recompute, Value, gradients};
use crate::nets::unet::{self, UnetConfig};
use crate::nets::{Lora, Result};
use crate::tensors::Scope;

/// An input of graphs that compute parts again for their gradient, true by default and to be left
/// so: it keeps the runtime from merging a part's second computation with its first.
const CHECKPOINT_GATE: &str = "checkpoint_gate";

/// `unet_grad`: the inputs of the UNet with `timestep` `[B]`, `target` [B, C, h, w] and the LoRA
/// inputs, to `mse` and `ref_mse` `[B]` f32 (means over C·h·w of the squared error with and without
/// LoRA) and `grad.<lora input>` [B, ..] f32, the gradient of each sample's `mse`.
///
/// Without LoRA in the options the default one is used: there is nothing else to differentiate.
///
/// # Errors
/// As [`unet::build`]; a LoRA target that names no linear layer.
pub fn unet_grad(config: &UnetConfig, w: &Scope, options: &Options) -> Result<UnetGraph> {
    let mut g = options.graph();
    let w = options.params(w);
    let inputs = unet_inputs(&mut g, config, options, Timestep::PerSample)?;
    let mut shape = g.shape(inputs.sample).to_vec();
    shape[1] = config.out_channels.into();
    let target = g.input(training::TARGET, DType::F32, &shape)?;
    let batch = shape[0].clone();
    g.recompute(if options.checkpointing {
        Recompute::Blocks
    } else {
        Recompute::Cheap
    });

    let spec = options.lora.clone().unwrap_or_default();
    let lora = Rc::new(Lora::new(
        &mut g,
        spec,
        options.compute,
        Some(batch.clone()),
    )?);
    let reference = unet::build(&mut g, config, &w, &inputs)?;
    let ref_square = squared_error(&mut g, reference, target)?;
    let ref_mse = g.reduce_mean(ref_square, &[1, 2, 3], false)?;
    let policy = unet::build(&mut g, config, &w.with_lora(lora.clone()), &inputs)?;
    let square = squared_error(&mut g, policy, target)?;
    let mse = g.reduce_mean(square, &[1, 2, 3], false)?;
    lora.check_targets()?;

    if g.recomputes() {
        let gate = Data::Inline([1].into());
        let gate = g.input_with_default(CHECKPOINT_GATE, DType::Bool, &[], gate)?;
        g.gate_recomputation(gate);
    }
    let loss = Loss::new(&mut g, options.compute, square, mse)?;
    let seed = g.scalar(loss.seed);
    let seed = g.expand(seed, std::slice::from_ref(&batch))?;
    let sites = lora.sites();
    let wanted: Vec<Value> = sites.iter().flat_map(|site| site.factors).collect();
    let found = gradients(&mut g, &[(loss.value, seed)], &wanted)?;

    g.output(training::MSE, mse)?;
    g.output(training::REF_MSE, ref_mse)?;
    let names = sites
        .iter()
        .flat_map(|site| [site.module.input_a(), site.module.input_b()]);
    for ((name, factor), gradient) in names.zip(wanted).zip(found) {
        let gradient = loss.unscaled(&mut g, gradient, factor)?;
        g.output(&training::grad(&name), gradient)?;
    }
    options.finish(&mut g, Kind::Training)?;
    Ok(UnetGraph {
        graph: g,
        lora: lora.modules(),
    })
}

/// The squared error in f32: [B, C, h, w].
fn squared_error(g: &mut Graph, prediction: Value, target: Value) -> Result<Value> {
    let prediction = g.cast(prediction, DType::F32)?;
    let error = g.sub(prediction, target)?;
    Ok(g.mul(error, error)?)
}

/// What is differentiated.
struct Loss {
    /// `[B]`: the mean of squares, or in half precision their sum.
    value: Value,
    /// What its adjoint begins with.
    seed: f32,
    /// What then makes gradients those of the mean; a scalar of one element.
    scale: Option<Value>,
}

impl Loss {
    fn new(g: &mut Graph, compute: DType, square: Value, mse: Value) -> Result<Self> {
        if compute == DType::F32 {
            return Ok(Self {
                value: mse,
                seed: 1.0,
                scale: None,
            });
        }
        let value = g.reduce_sum(square, &[1, 2, 3], false)?;
        let count = g.shape(square)[1..]
            .iter()
            .fold(Dim::from(1_u64), |n, d| n.times(d));
        let count = g.dim_value(&count)?;
        let count = g.cast(count, DType::F32)?;
        let two = g.scalar(2.0);
        Ok(Self {
            value,
            seed: 0.5,
            scale: Some(g.div(two, count)?),
        })
    }

    /// The gradient of the mean with respect to a factor, in f32; zeros where none was found.
    fn unscaled(&self, g: &mut Graph, gradient: Option<Value>, factor: Value) -> Result<Value> {
        let Some(gradient) = gradient else {
            let zero = g.scalar(0.0);
            let shape = g.shape(factor).to_vec();
            return Ok(g.expand(zero, &shape)?);
        };
        let gradient = g.cast(gradient, DType::F32)?;
        match self.scale {
            Some(scale) => Ok(g.mul(gradient, scale)?),
            None => Ok(gradient),
        }
    }
}
