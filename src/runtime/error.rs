//! What can go wrong with ONNX Runtime.

use std::path::PathBuf;

use super::Ep;

/// Why a graph could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No ONNX Runtime library was found.
    #[error("ONNX Runtime's library was not found; looked in {}", searched.join(", "))]
    NoLibrary {
        /// Where it was looked for.
        searched: Vec<String>,
    },
    /// `ORT_DYLIB_PATH` names nothing that exists.
    #[error("ORT_DYLIB_PATH is {}, but there is no ONNX Runtime library", path.display())]
    WrongPath {
        /// The variable's value.
        path: PathBuf,
    },
    /// A file was found that is no ONNX Runtime library or can't be loaded.
    #[error("cannot load ONNX Runtime from {}: {reason}", path.display())]
    Unloadable {
        /// The library.
        path: PathBuf,
        /// The loader's reason.
        reason: String,
    },
    /// The library is older than the interface this was built for.
    #[error(
        "ONNX Runtime at {} is version 1.{found}, at least 1.{needed} is needed", path.display()
    )]
    TooOld {
        /// The library.
        path: PathBuf,
        /// Its minor version.
        found: u32,
        /// The oldest minor version that works.
        needed: u32,
    },
    /// An execution provider that was asked for can't run here.
    #[error("the {ep} execution provider cannot run here: {reason}")]
    Unavailable {
        /// The provider.
        ep: Ep,
        /// Why not.
        reason: String,
    },
    /// ONNX Runtime refused a graph.
    #[error("cannot load {}: {reason}", path.display())]
    Load {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        reason: String,
    },
    /// A run failed.
    #[error("{}: run failed: {reason}", path.display())]
    Run {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        reason: String,
    },
    /// A required input was not given.
    #[error("{}: input `{name}` is missing", path.display())]
    MissingInput {
        /// The model file.
        path: PathBuf,
        /// The input.
        name: String,
    },
    /// An input was given that the graph does not have, or that was given twice.
    #[error("{}: input `{name}` is {problem}", path.display())]
    UnexpectedInput {
        /// The model file.
        path: PathBuf,
        /// The input.
        name: String,
        /// "not one of the graph's …" or "given twice".
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("{}: input `{name}` has shape {found:?}, expected {expected}", path.display())]
    InputShape {
        /// The model file.
        path: PathBuf,
        /// The input.
        name: String,
        /// The shape given.
        found: Vec<usize>,
        /// The shape declared, `?` where it is free.
        expected: String,
    },
    /// An input's values don't fit the type that the graph declares.
    #[error("{}: input `{name}`: {problem}", path.display())]
    InputType {
        /// The model file.
        path: PathBuf,
        /// The input.
        name: String,
        /// What doesn't fit.
        problem: String,
    },
    /// An output was asked for that the graph does not have.
    #[error("{}: no output `{name}`; it has {}", path.display(), has.join(", "))]
    NoOutput {
        /// The model file.
        path: PathBuf,
        /// The output asked for.
        name: String,
        /// The outputs there are.
        has: Vec<String>,
    },
    /// An output holds something else than numbers of the kind asked for.
    #[error("{}: output `{name}` is {found}, expected {expected}", path.display())]
    OutputType {
        /// The model file.
        path: PathBuf,
        /// The output.
        name: String,
        /// Its type.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NoLibrary { .. } => Some(
                "run scripts/setup, which puts ONNX Runtime into .runtime/, or set ORT_DYLIB_PATH \
                 to a libonnxruntime.so",
            ),
            Error::WrongPath { .. } | Error::Unloadable { .. } | Error::TooOld { .. } => Some(
                "unset ORT_DYLIB_PATH and run scripts/setup, or point it at another \
                 libonnxruntime.so",
            ),
            Error::Unavailable { .. } => {
                Some("--ep auto uses what this machine has, --ep cpu always works")
            }
            _ => None,
        }
    }
}

/// Result of working with ONNX Runtime.
pub type Result<T> = std::result::Result<T, Error>;
