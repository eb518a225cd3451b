//! What can go wrong in judging pictures.

use std::path::{Path, PathBuf};

use super::reading::Misfit;

/// An axes file and a chain that don't fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Both {
    /// The axes file.
    pub axes: PathBuf,
    /// The chain's manifest.
    pub chain: PathBuf,
}

/// Why pictures can't be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] crate::diffusion::tokenizer::Error),
    /// The chain does not measure an axis.
    #[error(
        "{}: axis `{axis}`: the chain {} has no `{output}`; it measures {}",
        both.axes.display(), both.chain.display(), has.join(", ")
    )]
    Unmeasured {
        /// The files.
        both: Box<Both>,
        /// The axis.
        axis: String,
        /// The output that the axes file names.
        output: String,
        /// What it does measure.
        has: Vec<String>,
    },
    /// A label of the chain that the axes file gives no meaning.
    #[error(
        "{}: axis `{axis}`: the chain {} says `{label}` for `{output}`, which means none of {}",
        both.axes.display(), both.chain.display(), values.join(", ")
    )]
    Meaningless {
        /// The files.
        both: Box<Both>,
        /// The chain's output.
        output: String,
        /// The axis.
        axis: String,
        /// The chain's label.
        label: String,
        /// The axis' values.
        values: Vec<String>,
    },
    /// The axes file says of the chain what is not so.
    #[error("{}: {misfit}: the chain {}: {}", both.axes.display(), both.chain.display(), misfit.problem)]
    Misfit {
        /// The files.
        both: Box<Both>,
        /// What is not so.
        misfit: Misfit,
    },
    /// Target shares that can't be.
    #[error("{}: {problem}", path.display())]
    Target {
        /// The target file.
        path: PathBuf,
        /// The key, and what was expected.
        problem: String,
    },
    /// A published network whose files don't fit together, or aren't what they are named.
    #[error("{}: {problem}", path.display())]
    Published {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A network that can't be built of its files.
    #[error("{} can't be built", path.display())]
    Network {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: Box<crate::nets::Error>,
    },
    /// Weights that can't be read.
    #[error(transparent)]
    Weights(#[from] crate::tensors::Error),
    /// A file of JSON.
    #[error(transparent)]
    Json(#[from] crate::base::json::Error),
    /// A caption for a CLIP that was opened for pictures.
    #[error("this CLIP was opened for pictures only")]
    NoCaptions,
    /// A configuration of the CLIP part that can't be followed.
    #[error("{}: {problem}", path.display())]
    Preprocessing {
        /// The file.
        path: PathBuf,
        /// The key, and what was expected.
        problem: String,
    },
}

impl Error {
    /// A network that can't be built of what lies at `path`.
    pub(super) fn network(path: &Path, source: crate::nets::Error) -> Self {
        Self::Network {
            path: path.to_path_buf(),
            source: Box::new(source),
        }
    }

    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            // A transparent error hides the one it holds from whoever walks the causes.
            Self::Bundle(inner) => inner.hint(),
            Self::Runtime(inner) => inner.hint(),
            Self::Weights(inner) => inner.hint(),
            Self::Unmeasured { .. } | Self::Meaningless { .. } | Self::Misfit { .. } => Some(
                "an axis of the axes file says what the chain's labels mean: \
                 classifier = { output = \"…\", labels = { Label = \"value\" } }",
            ),
            _ => None,
        }
    }
}

/// Result of judging.
pub type Result<T> = std::result::Result<T, Error>;
