//! Files of JSON.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fsio;

/// Why a file of JSON can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error(transparent)]
    Io(#[from] fsio::Error),
    /// Not what it should be.
    #[error("{} is not {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

/// Reads a file of JSON; `what` is what it should be, for messages.
///
/// # Errors
/// [`Error`] naming the file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, Error> {
    parse(&fsio::read(path)?, path, what)
}

/// The contents of a file of JSON.
///
/// # Errors
/// [`Error::Json`] naming the file.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    what: &'static str,
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(failed(path, what))
}

/// Writes a file of indented JSON.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn write(path: &Path, what: &'static str, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(failed(path, what))?;
    Ok(fsio::write(path, text + "\n")?)
}

/// A value on one line, for a file of JSON lines.
///
/// # Errors
/// [`Error::Json`] naming the file.
pub(crate) fn line(
    path: &Path,
    what: &'static str,
    value: &impl Serialize,
) -> Result<String, Error> {
    serde_json::to_string(value).map_err(failed(path, what))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
    move |source| Error::Json {
        path: path.to_path_buf(),
        what,
        source,
    }
}
