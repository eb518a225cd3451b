//! An adapter in memory, and made to fit the inputs of a graph.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::names::targets;
use super::{Error, LoraModule, Result};
use crate::runtime::Feed;

/// The factors of one linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// A, the "down" factor: [rank, inputs], row-major.
    pub a: Vec<f32>,
    /// B, the "up" factor: [outputs, rank], row-major.
    pub b: Vec<f32>,
    /// Rank, at least 1.
    pub rank: usize,
    /// The product counts alpha / rank.
    pub alpha: f32,
}

impl Factors {
    /// Inputs of the layer.
    pub fn inputs(&self) -> usize {
        self.a.len() / self.rank
    }

    /// Outputs of the layer.
    pub fn outputs(&self) -> usize {
        self.b.len() / self.rank
    }
}

/// An adapter: factors by module path without the `unet.` prefix, as in
/// `down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoraAdapter {
    /// Factors of every adapted layer.
    pub modules: BTreeMap<String, Factors>,
}

/// An adapter made to fit a model's LoRA inputs.
#[derive(Debug, Clone, Default)]
pub struct Fitted {
    inputs: Vec<(String, Vec<f32>, [usize; 2])>,
}

impl LoraAdapter {
    /// Makes the factors fit graphs of rank `rank` over `modules`: lower ranks are padded with
    /// zeros, alpha / r is multiplied into B. Layers of the model that the adapter does not touch
    /// keep the graphs' zero defaults.
    ///
    /// # Errors
    /// [`Error::NoModule`], [`Error::Size`] and [`Error::Rank`].
    pub fn fit(&self, modules: &[LoraModule], rank: usize) -> Result<Fitted> {
        let known: BTreeMap<&str, &LoraModule> =
            modules.iter().map(|m| (m.path.as_str(), m)).collect();
        let mut inputs = Vec::with_capacity(2 * self.modules.len());
        for (path, factors) in &self.modules {
            let Some(module) = known.get(path.as_str()) else {
                return Err(Error::NoModule {
                    module: path.clone(),
                    targets: targets(modules.iter().map(|m| m.path.as_str())).join(", "),
                });
            };
            let (expected, found) = (
                [module.in_features as usize, module.out_features as usize],
                [factors.inputs(), factors.outputs()],
            );
            if expected != found {
                return Err(Error::Size {
                    module: path.clone(),
                    found,
                    expected,
                });
            }
            if factors.rank > rank {
                return Err(Error::Rank {
                    module: path.clone(),
                    found: factors.rank,
                    limit: rank,
                });
            }
            let scale = factors.alpha / factors.rank as f32;
            let mut a = factors.a.clone();
            a.resize(rank * expected[0], 0.0);
            let mut b = vec![0.0; expected[1] * rank];
            for (to, from) in b
                .chunks_exact_mut(rank)
                .zip(factors.b.chunks_exact(factors.rank))
            {
                for (t, f) in to.iter_mut().zip(from) {
                    *t = f * scale;
                }
            }
            inputs.push((module.input_a(), a, [rank, expected[0]]));
            inputs.push((module.input_b(), b, [expected[1], rank]));
        }
        Ok(Fitted { inputs })
    }
}

impl Fitted {
    /// Adds the factors to a run's inputs, by reference.
    pub fn feed<'a>(&'a self, feed: &mut Feed<'a>) {
        for (name, values, shape) in &self.inputs {
            feed.push_f32(name.as_str(), values.as_slice(), shape);
        }
    }

    /// A hash of the factors as they are fed.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, values, [rows, columns]) in self.inputs() {
            hasher.update(format!("{name} [{rows}, {columns}]\n"));
            hasher.update(bytemuck::cast_slice::<f32, u8>(values));
        }
        let hash = hasher.finalize();
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The inputs: name, row-major values, shape.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[f32], [usize; 2])> {
        self.inputs
            .iter()
            .map(|(name, values, shape)| (name.as_str(), values.as_slice(), *shape))
    }
}
