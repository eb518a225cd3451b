//! A failed file operation.

use std::io;
use std::path::{Path, PathBuf};

/// A failed file operation, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// What was tried: "write", "read", "create" …
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: io::Error,
}

/// Result of a file operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Makes the error of an operation on `path` from the operating system's reason.
pub(crate) fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + Copy {
    move |source| Error {
        action,
        path: path.to_path_buf(),
        source,
    }
}
