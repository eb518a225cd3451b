//! LoRA files: PEFT, diffusers and kohya are read, diffusers and kohya are written.
//!
//! An adapter is a pair of factors per linear layer, `W + (alpha / r) B A`. The three formats
//! differ in names and in where alpha stands:
//!
//! | format | factors | alpha |
//! | --- | --- | --- |
//! | PEFT | `base_model.model.M.lora_A.weight`, `lora_B` | `adapter_config.json` beside the file |
//! | diffusers | `unet.M.lora_A.weight`, `unet.M.lora.down.weight`, `unet.M.processor.to_q_lora.down.weight` | `lora_adapter_metadata` in the header, else r |
//! | kohya | `lora_unet_M_with_underscores.lora_down.weight`, `lora_up` | `….alpha`, else r |
//!
//! Names follow diffusers 0.36 (`loaders/lora_conversion_utils.py`, `loaders/lora_base.py`). What
//! is not a plain LoRA of linear layers (LoHa, LoKr, DoRA, convolutions) is refused by name: left
//! out, it would silently give other pictures. So is a text encoder's, except where it is merged
//! ([`read_all`], [`merge()`]): the text encoders' graphs take no factors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod merge;
mod names;
mod read;
mod write;

pub use merge::merge;
pub use read::{Adapters, read, read_all};
pub use write::{KohyaNames, write_diffusers, write_kohya};

use super::list;
use crate::nets::LoraModule;
use crate::runtime::Feed;

/// Why an adapter cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error(transparent)]
    Weights(#[from] super::Error),
    /// A JSON text about the adapter.
    #[error("{}: {what} is not what PEFT writes", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Which text.
        what: &'static str,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A kind of adapter that is not a plain LoRA.
    #[error("{}: `{key}` belongs to {kind}, which is not supported; plain LoRA of linear layers is", file.display())]
    Kind {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What it belongs to.
        kind: &'static str,
    },
    /// A key of no known format.
    #[error("{}: `{key}` is not a LoRA key of PEFT, diffusers or kohya", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// Half a pair of factors.
    #[error("{}: module `{module}` has no {missing} factor", file.display())]
    Half {
        /// The file.
        file: PathBuf,
        /// The module's path.
        module: String,
        /// "A (down)" or "B (up)".
        missing: &'static str,
    },
    /// Factors whose shapes do not fit.
    #[error("{}: module `{module}`: {problem}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The module's path.
        module: String,
        /// What does not fit.
        problem: String,
    },
    /// Two keys, of two formats, for the same factor.
    #[error("{}: `{key}` gives module `{module}` a factor that it has already", file.display())]
    Twice {
        /// The file.
        file: PathBuf,
        /// The second key.
        key: String,
        /// The module's path.
        module: String,
    },
    /// A file without any factors.
    #[error("{} holds no LoRA factors", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The model has no such LoRA input.
    #[error(
        "the adapter has factors for `{module}`, which this model was exported without; it takes LoRA on {targets}"
    )]
    NoModule {
        /// The module's path.
        module: String,
        /// The kinds of modules the model takes LoRA on.
        targets: String,
    },
    /// The adapter's layer has another size than the model's.
    #[error("the adapter's `{module}` is {found:?} (in, out), the model's is {expected:?}")]
    Size {
        /// The module's path.
        module: String,
        /// Inputs and outputs in the adapter.
        found: [usize; 2],
        /// Inputs and outputs in the model.
        expected: [usize; 2],
    },
    /// The model's weights have no such module.
    #[error(
        "the adapter has factors for `{module}`, which {} has no weight for",
        list(files)
    )]
    NoWeight {
        /// The module's path.
        module: String,
        /// The weight files searched.
        files: Vec<PathBuf>,
    },
    /// A weight that an adapter takes out of its type's range.
    #[error("with the adapter, `{key}` has values that are not finite in {dtype}")]
    NotFinite {
        /// The weight's name.
        key: String,
        /// The type it is stored in.
        dtype: super::DType,
    },
    /// The adapter's rank is too high for the graphs.
    #[error(
        "the adapter's rank is {found} (`{module}`), the model was exported for ranks up to {limit}"
    )]
    Rank {
        /// The module's path.
        module: String,
        /// The adapter's rank.
        found: usize,
        /// The model's.
        limit: usize,
    },
}

/// Result of working with an adapter.
pub type Result<T> = std::result::Result<T, Error>;

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

    /// The inputs: name, row-major values, shape.
    pub fn inputs(&self) -> impl Iterator<Item = (&str, &[f32], [usize; 2])> {
        self.inputs
            .iter()
            .map(|(name, values, shape)| (name.as_str(), values.as_slice(), *shape))
    }
}

/// The kinds of modules by the end of their paths, as PEFT's `target_modules`: `to_k`, `to_out.0`.
pub fn targets<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut kinds: Vec<String> = paths
        .into_iter()
        .map(|path| names::kind(path).to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn shape_error(file: &Path, module: &str, problem: String) -> Error {
    Error::Shape {
        file: file.to_path_buf(),
        module: module.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests;
