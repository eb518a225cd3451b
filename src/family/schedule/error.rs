//! Why a scheduler's configuration is refused.

use std::path::PathBuf;

use crate::base::{fsio, json};

/// Why a scheduler configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// Not JSON, or no object.
    #[error(transparent)]
    Json(#[from] json::Error),
    /// A key with a value that is not supported.
    #[error("{}: `{key}` is {value}, supported: {supported}", path.display())]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The values that would do.
        supported: String,
    },
    /// A key that isn't known.
    #[error(
        "{}: `{key}` ({value}) is no key of diffusers' schedulers for Stable Diffusion: the model may be \
         of another kind", path.display()
    )]
    Key {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
}

/// Result of reading a configuration.
pub type Result<T> = std::result::Result<T, Error>;
