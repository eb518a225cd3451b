//! Adding adapters to a network's weights: `W + Σ scale · (alpha / r) · B A`.
//!
//! Only the tensors that an adapter touches are written, into one safetensors file, one after the
//! other; all others stay where they are. Sums are computed in fp32 and rounded once to the type
//! that the tensor is stored in.
//!
//! Rows are added in blocks of [`ROWS`], on all threads. A block is computed alike whoever computes
//! it, so the result doesn't depend on the number of threads. At any time two tensors are in memory,
//! one being computed and one being written.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::ScopedJoinHandle;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use super::{Error, Factors, LoraAdapter, Result};
use crate::tensors::{DType, Tensor, Weights};
use crate::tensors::{Planned, Stored, order, write_planned};

/// Rows of a block: enough for the product of matrices to be fast, few enough to stay in a cache.
const ROWS: usize = 64;

/// What an adapter adds to a tensor.
struct Change<'a> {
    module: &'a str,
    factors: &'a Factors,
    scale: f32,
}

/// A tensor to change.
struct Target<'a> {
    tensor: Tensor,
    /// Whether it is stored [inputs, outputs].
    transposed: bool,
    changes: Vec<Change<'a>>,
}

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
    let mut targets: BTreeMap<String, Target<'_>> = BTreeMap::new();
    for &(adapter, scale) in adapters {
        for (module, factors) in &adapter.modules {
            let (tensor, transposed) = weight(weights, module)?;
            let target = targets.entry(tensor.name.clone());
            let target = target.or_insert_with(|| Target {
                tensor: tensor.clone(),
                transposed,
                changes: Vec::new(),
            });
            target.changes.push(Change {
                module,
                factors,
                scale: scale * factors.alpha / factors.rank as f32,
            });
        }
    }
    let targets: Vec<Target<'_>> = targets.into_values().collect();
    write(path, &targets)?;
    weights.replace(path)?;
    Ok(targets.len())
}

/// Writes the changed tensors, each while the next is computed.
fn write(path: &Path, targets: &[Target<'_>]) -> Result<()> {
    let planned: Vec<Planned> = targets.iter().map(|t| Planned::like(&t.tensor)).collect();
    let mut order = order(&planned).into_iter();
    std::thread::scope(|scope| {
        let mut start = || {
            order
                .next()
                .map(|i| scope.spawn(move || targets[i].merged()))
        };
        let mut ahead = start();
        write_planned(path, &planned, &BTreeMap::new(), |index| {
            let merged = match ahead.take().map(ScopedJoinHandle::join) {
                Some(Ok(merged)) => merged,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => targets[index].merged(),
            };
            ahead = start();
            merged
        })
    })
}

/// The weight that a module's factors belong to, and whether it is stored transposed. Text encoders
/// come with and without the prefix `text_model.`, in weights and in adapters; open_clip's
/// projection is a bare parameter [in, out].
fn weight<'a>(weights: &'a Weights, module: &str) -> Result<(&'a Tensor, bool)> {
    let plain = module.strip_prefix("text_model.").unwrap_or(module);
    let names = [
        (format!("{plain}.weight"), false),
        (format!("text_model.{plain}.weight"), false),
        (plain.to_owned(), true),
    ];
    let found = names
        .iter()
        .find_map(|(name, transposed)| Some((weights.tensor(name)?, *transposed)));
    found.ok_or_else(|| Error::NoWeight {
        module: module.to_owned(),
        files: weights.files().iter().map(|f| f.to_path_buf()).collect(),
    })
}

/// A tensor's elements as they are stored.
enum Merged {
    F16(Vec<half::f16>),
    BF16(Vec<half::bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl AsRef<[u8]> for Merged {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::F16(values) => bytemuck::cast_slice(values),
            Self::BF16(values) => bytemuck::cast_slice(values),
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::F64(values) => bytemuck::cast_slice(values),
        }
    }
}

impl Target<'_> {
    /// The tensor with its changes added.
    fn merged(&self) -> Result<Merged> {
        let [rows, columns] = self.matrix();
        for change in &self.changes {
            let found = [change.factors.inputs(), change.factors.outputs()];
            let expected = match self.transposed {
                true => [rows, columns],
                false => [columns, rows],
            };
            if found != expected {
                return Err(Error::Size {
                    module: change.module.to_owned(),
                    found,
                    expected,
                });
            }
        }
        match self.tensor.dtype {
            DType::F16 => self.sum().map(Merged::F16),
            DType::BF16 => self.sum().map(Merged::BF16),
            DType::F32 => self.sum().map(Merged::F32),
            DType::F64 => self.sum().map(Merged::F64),
            _ => Err(self.tensor.not_float().into()),
        }
    }

    /// Rows and columns as stored; zeros for what is no matrix. 1×1 convolutions are matrices.
    fn matrix(&self) -> [usize; 2] {
        match self.tensor.shape.as_slice() {
            [rows, columns] | [rows, columns, 1, 1] => [*rows as usize, *columns as usize],
            _ => [0, 0],
        }
    }

    /// The elements with the changes added.
    fn sum<T: Stored>(&self) -> Result<Vec<T>> {
        let mut values: Vec<T> = self.tensor.read_as()?;
        let columns = self.matrix()[1];
        let factors: Vec<_> = self.changes.iter().map(|c| self.factors(c)).collect();
        let blocks = values.par_chunks_mut((ROWS * columns).max(1)).enumerate();
        let finite = blocks.map_init(Vec::new, |sums: &mut Vec<f32>, (index, block)| {
            sums.resize(block.len(), 0.0);
            T::load(block, sums);
            let rows = block.len() / columns;
            if let Ok(mut sums) = ArrayViewMut2::from_shape((rows, columns), sums.as_mut_slice()) {
                let from = index * ROWS;
                for (scale, left, right) in &factors {
                    let left = left.slice(s![from..from + rows, ..]);
                    general_mat_mul(*scale, &left, right, 1.0, &mut sums);
                }
            }
            T::store(sums, block);
            // What is no number is smaller than nothing.
            sums.iter().all(|v| v.abs() < T::LIMIT)
        });
        match finite.reduce(|| true, |a, b| a && b) {
            true => Ok(values),
            false => Err(Error::NotFinite {
                key: self.tensor.name.clone(),
                dtype: self.tensor.dtype,
            }),
        }
    }

    /// The two matrices whose product, times a scale, a change adds: [rows, r] and [r, columns].
    fn factors<'a>(&self, change: &Change<'a>) -> (f32, ArrayView2<'a, f32>, ArrayView2<'a, f32>) {
        let Factors { a, b, rank, .. } = change.factors;
        let (inputs, outputs) = (change.factors.inputs(), change.factors.outputs());
        let view = |rows, columns, data: &'a [f32]| {
            ArrayView2::from_shape((rows, columns), &data[..rows * columns])
                .expect("a slice of rows times columns elements has that shape")
        };
        let (a, b) = (view(*rank, inputs, a), view(outputs, *rank, b));
        match self.transposed {
            true => (change.scale, a.reversed_axes(), b.reversed_axes()),
            false => (change.scale, b, a),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{NewTensor, write_safetensors};

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0;
        (0..count).map(number).collect()
    }

    fn factors(inputs: usize, outputs: usize, rank: usize) -> Factors {
        Factors {
            a: numbers(rank * inputs, 1),
            b: numbers(outputs * rank, 2),
            rank,
            alpha: 3.0,
        }
    }

    /// `W + scale · (alpha / r) · B A`, in double precision.
    fn expected(values: &[f32], f: &Factors, scale: f64, transposed: bool) -> Vec<f64> {
        let (inputs, outputs) = (f.inputs(), f.outputs());
        let change = |o: usize, i: usize| {
            let product = |k| f64::from(f.b[o * f.rank + k]) * f64::from(f.a[k * inputs + i]);
            (0..f.rank).map(product).sum::<f64>() * scale * f64::from(f.alpha) / f.rank as f64
        };
        let place = |at: usize| match transposed {
            true => (at % outputs, at / outputs),
            false => (at / inputs, at % inputs),
        };
        let sum = |(at, value): (usize, &f32)| f64::from(*value) + change(place(at).0, place(at).1);
        values.iter().enumerate().map(sum).collect()
    }

    #[test]
    fn every_type_and_layout_is_right_and_the_same_at_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (outputs, inputs) = (150, 70);
        let plain = numbers(outputs * inputs, 3);
        let source = dir.path().join("w.safetensors");
        let half: Vec<half::f16> = plain.iter().map(|&v| half::f16::from_f32(v)).collect();
        let brain: Vec<half::bf16> = plain.iter().map(|&v| half::bf16::from_f32(v)).collect();
        let wide: Vec<f64> = plain.iter().map(|&v| v.into()).collect();
        let bytes = |name: &str, dtype, shape: [u64; 2], data: &[u8]| NewTensor {
            name: name.into(),
            dtype,
            shape: shape.into(),
            data: data.to_vec().into(),
        };
        let (out, inp) = (outputs as u64, inputs as u64);
        let tensors = [
            bytes(
                "half.weight",
                DType::F16,
                [out, inp],
                bytemuck::cast_slice(&half),
            ),
            bytes(
                "brain.weight",
                DType::BF16,
                [out, inp],
                bytemuck::cast_slice(&brain),
            ),
            bytes(
                "wide.weight",
                DType::F64,
                [out, inp],
                bytemuck::cast_slice(&wide),
            ),
            bytes(
                "text_projection",
                DType::F32,
                [inp, out],
                bytemuck::cast_slice(&plain),
            ),
        ];
        write_safetensors(&source, &tensors, &BTreeMap::new()).unwrap();
        let names = ["half", "brain", "wide", "text_projection"];
        let modules = names.map(|name| (name.to_owned(), factors(inputs, outputs, 5)));
        let adapter = LoraAdapter {
            modules: modules.into(),
        };
        let mut files = Vec::new();
        for threads in [1, 2, 7] {
            let path = dir.path().join(format!("merged-{threads}.safetensors"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut weights = Weights::open_files([&source]).unwrap();
            let changes = [(&adapter, 0.5), (&adapter, -0.25)];
            // Blocks run on the pool of the thread that starts them.
            let count = pool
                .unwrap()
                .install(|| merge(&mut weights, &changes, &path))
                .unwrap();
            assert_eq!(count, 4);
            files.push(std::fs::read(&path).unwrap());
            for tensor in weights.iter() {
                let rounding = match tensor.dtype {
                    DType::F16 => 1e-3,
                    DType::BF16 => 1e-2,
                    _ => 1e-6,
                };
                let transposed = tensor.name == "text_projection";
                let stored = match tensor.dtype {
                    DType::F16 => half.iter().map(|v| v.to_f32()).collect(),
                    DType::BF16 => brain.iter().map(|v| v.to_f32()).collect(),
                    _ => plain.clone(),
                };
                let expected = expected(&stored, &factors(inputs, outputs, 5), 0.25, transposed);
                for (found, expected) in tensor.read_f32().unwrap().iter().zip(expected) {
                    let far = (f64::from(*found) - expected).abs();
                    assert!(
                        far <= rounding * expected.abs().max(1.0),
                        "{}: {far}",
                        tensor.name
                    );
                }
            }
        }
        assert!(
            files.iter().all(|f| *f == files[0]),
            "threads change the bits"
        );
    }

    #[test]
    fn a_sum_that_leaves_its_type_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("w.safetensors");
        let halves = vec![half::f16::from_f32(65500.0); 4];
        let tensor = NewTensor::f16("m.weight", &[2, 2], &halves);
        write_safetensors(&source, &[tensor], &BTreeMap::new()).unwrap();
        let factors = Factors {
            a: vec![1.0; 2],
            b: vec![30.0; 2],
            rank: 1,
            alpha: 1.0,
        };
        let adapter = LoraAdapter {
            modules: [("m".to_owned(), factors)].into(),
        };
        let mut weights = Weights::open_files([&source]).unwrap();
        let path = dir.path().join("merged.safetensors");
        let error = merge(&mut weights, &[(&adapter, 1.0)], &path).unwrap_err();
        assert!(
            matches!(&error, Error::NotFinite { key, .. } if key == "m.weight"),
            "{error}"
        );
        assert!(!path.exists());
        // Half of that rounds back into range.
        assert_eq!(merge(&mut weights, &[(&adapter, 0.5)], &path).unwrap(), 1);
    }
}
