//! What can be wrong with a network's configuration or weights.

use std::path::PathBuf;

/// Result of reading a configuration or building a network.
pub type Result<T> = std::result::Result<T, Error>;

/// A network that can't be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration asks for something no function here builds.
    #[error("unsupported `{key}`: {value} in {network}'s configuration; supported: {supported}")]
    Unsupported {
        /// The class whose configuration it is.
        network: &'static str,
        /// The key in `config.json`.
        key: String,
        /// Its value.
        value: String,
        /// What would be built.
        supported: String,
    },
    /// Two entries of a configuration contradict each other.
    #[error("`{key}` in {network}'s configuration: {problem}")]
    Inconsistent {
        /// The class whose configuration it is.
        network: &'static str,
        /// The key in `config.json`.
        key: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// A configuration that is not what its class writes.
    #[error("{network}'s configuration is malformed")]
    Malformed {
        /// The class whose configuration it is.
        network: &'static str,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// A configuration file that is not JSON.
    #[error("{} is not JSON", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// A LoRA was asked for on something that is not a linear layer, or on nothing at all.
    #[error("LoRA target `{target}`: {problem}")]
    LoraTarget {
        /// The target or the module it names.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A weight whose element type can't be computed with.
    #[error("tensor `{key}` is of type {dtype}, expected F32, F16 or BF16")]
    Dtype {
        /// The tensor's name.
        key: String,
        /// Its type.
        dtype: String,
    },
    /// The weights don't fit the configuration.
    #[error(transparent)]
    Weights(#[from] crate::tensors::Error),
    /// The network's parts don't fit together.
    #[error(transparent)]
    Graph(#[from] crate::graph::Error),
    /// A configuration file can't be read.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
}
