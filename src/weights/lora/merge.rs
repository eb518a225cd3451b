//! Adding adapters to a network's weights: `W + Σ scale · (alpha / r) · B A`.
//!
//! Only the tensors that an adapter touches are written, into one safetensors file, one after the
//! other; all others stay where they are. Sums are computed in fp32 and rounded once to the type
//! that the tensor is stored in.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::ArrayView2;

use super::{Error, Factors, LoraAdapter, Result};
use crate::weights::safetensors::{Planned, write_planned};
use crate::weights::{DType, Tensor, Weights};

/// Adds `adapters`, each times its scale, to the weights of one network: the changed tensors go to
/// `path`, and `weights` then point there. Returns how many were changed.
///
/// # Errors
/// [`Error::NoWeight`] for a module that the network lacks, [`Error::Size`] for one of another size,
/// [`Error::NotFinite`] if a sum leaves the range of its type, and what the disk refuses.
pub fn merge(
    weights: &mut Weights,
    adapters: &[(&LoraAdapter, f32)],
    path: &Path,
) -> Result<usize> {
    let mut changes: BTreeMap<String, Vec<(&str, &Factors, f32)>> = BTreeMap::new();
    for &(adapter, scale) in adapters {
        for (module, factors) in &adapter.modules {
            let name = weight_name(weights, module)?;
            let change = (module.as_str(), factors, scale);
            changes.entry(name).or_default().push(change);
        }
    }
    let mut tensors = Vec::with_capacity(changes.len());
    for name in changes.keys() {
        if let Some(tensor) = weights.tensor(name) {
            tensors.push(tensor.clone());
        }
    }
    let planned: Vec<Planned> = tensors.iter().map(Planned::like).collect();
    write_planned(path, &planned, &BTreeMap::new(), |index| {
        let tensor = &tensors[index];
        merged(tensor, &changes[&tensor.name])
    })?;
    weights.replace(path)?;
    Ok(tensors.len())
}

/// The weight that a module's factors belong to. Text encoders come with and without the prefix
/// `text_model.`, in weights and in adapters.
fn weight_name(weights: &Weights, module: &str) -> Result<String> {
    let plain = module.strip_prefix("text_model.").unwrap_or(module);
    let names = [
        format!("{plain}.weight"),
        format!("text_model.{plain}.weight"),
    ];
    let found = names.iter().find(|name| weights.tensor(name).is_some());
    found.cloned().ok_or_else(|| Error::NoWeight {
        module: module.to_owned(),
        files: weights.files().iter().map(|f| f.to_path_buf()).collect(),
    })
}

/// The bytes of a tensor with its changes added.
fn merged(tensor: &Tensor, changes: &[(&str, &Factors, f32)]) -> Result<Vec<u8>> {
    let mut values = tensor.read_f32()?;
    for &(module, factors, scale) in changes {
        let found = [factors.inputs(), factors.outputs()];
        let (out, inp) = match tensor.shape.as_slice() {
            [out, inp] | [out, inp, 1, 1] => (*out as usize, *inp as usize),
            _ => (0, 0),
        };
        if found != [inp, out] {
            return Err(Error::Size {
                module: module.to_owned(),
                found,
                expected: [inp, out],
            });
        }
        add(
            &mut values,
            factors,
            scale * factors.alpha / factors.rank as f32,
        );
    }
    if values.iter().any(|v| !v.is_finite()) {
        return Err(not_finite(tensor));
    }
    encode(tensor, &values)
}

/// Adds `scale · B A` to a matrix, a block of rows at a time.
fn add(values: &mut [f32], factors: &Factors, scale: f32) {
    const ROWS: usize = 256;
    let (inputs, rank) = (factors.inputs(), factors.rank);
    let view = |shape: (usize, usize), data| ArrayView2::from_shape(shape, data);
    let Ok(a) = view((rank, inputs), factors.a.as_slice()) else {
        return;
    };
    let blocks = values
        .chunks_mut(ROWS * inputs)
        .zip(factors.b.chunks(ROWS * rank));
    for (block, b) in blocks {
        if let Ok(b) = view((b.len() / rank, rank), b) {
            for (value, change) in block.iter_mut().zip(b.dot(&a)) {
                *value += scale * change;
            }
        }
    }
}

/// Values in the type that the tensor is stored in.
fn encode(tensor: &Tensor, values: &[f32]) -> Result<Vec<u8>> {
    let bytes: Vec<u8> = match tensor.dtype {
        DType::F16 => {
            let halves: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
            if halves.iter().any(|v| !v.is_finite()) {
                return Err(not_finite(tensor));
            }
            bytemuck::cast_slice(&halves).to_vec()
        }
        DType::BF16 => {
            let halves: Vec<half::bf16> = values.iter().map(|&v| half::bf16::from_f32(v)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        DType::F64 => {
            let wide: Vec<f64> = values.iter().map(|&v| v.into()).collect();
            bytemuck::cast_slice(&wide).to_vec()
        }
        _ => bytemuck::cast_slice(values).to_vec(),
    };
    Ok(bytes)
}

fn not_finite(tensor: &Tensor) -> Error {
    Error::NotFinite {
        key: tensor.name.clone(),
        dtype: tensor.dtype,
    }
}
