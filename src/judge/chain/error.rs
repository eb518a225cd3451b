//! What can go wrong with a chain.

use std::path::PathBuf;

use crate::base::fsio;
use crate::runtime;

/// Why a chain can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a file nor the name of a chain that ships.
    #[error(
        "no classifier chain `{name}`: it is no file, and there is no {looked} beside the current folder or the program"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// What was looked for.
        looked: String,
    },
    /// The manifest isn't TOML, or has unknown or missing keys.
    #[error("{}: not a chain manifest", path.display())]
    Toml {
        /// The manifest.
        path: PathBuf,
        /// The parser's reason.
        source: Box<toml::de::Error>,
    },
    /// The manifest contradicts itself.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Which key, and what was expected.
        reason: String,
    },
    /// A model file is not what the manifest says it is.
    #[error("{}: {key} of `{model}`: {problem}", path.display())]
    Model {
        /// The manifest.
        path: PathBuf,
        /// The model file, as the manifest names it.
        model: String,
        /// The manifest's key: `input`, `output` …
        key: String,
        /// What the file has, and what was expected.
        problem: String,
    },
    /// A model answered something that can't be read as its manifest says.
    #[error("{}: output `{output}` of `{model}` is {problem}", path.display())]
    Answer {
        /// The manifest.
        path: PathBuf,
        /// The model file, as the manifest names it.
        model: String,
        /// The output.
        output: String,
        /// What is wrong with it.
        problem: String,
    },
    /// ONNX Runtime refused a model or a run.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fsio::Error),
}
