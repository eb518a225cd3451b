//! Which chain is meant, and where it lies.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::bundle::Bundle;

/// The chain that ships for photographs.
const PHOTOGRAPHS: &str = "faces";

/// The chain that was asked for, else the bundle's, else the one that ships for photographs.
///
/// # Errors
/// [`Error::NotFound`].
pub fn choose(asked: Option<&str>, bundle: Option<&Bundle>) -> Result<PathBuf, Error> {
    let own = || bundle.and_then(|bundle| bundle.file("chain.toml"));
    match asked {
        Some(name) => locate(name),
        None => own().map_or_else(|| locate(PHOTOGRAPHS), Ok),
    }
}

/// Finds a manifest: a file (or a folder with `chain.toml`), or the name of one that ships under
/// `models/NAME/chain.toml` beside the current folder or one of the program's ancestors.
///
/// # Errors
/// [`Error::NotFound`].
pub fn locate(name: &str) -> Result<PathBuf, Error> {
    let direct = Path::new(name);
    if direct.is_file() {
        return Ok(direct.to_path_buf());
    }
    if direct.join("chain.toml").is_file() {
        return Ok(direct.join("chain.toml"));
    }
    let relative = Path::new("models").join(name).join("chain.toml");
    let program = std::env::current_exe().ok();
    let program_dirs = program
        .as_deref()
        .into_iter()
        .flat_map(|p| p.ancestors().skip(1));
    std::iter::once(Path::new("."))
        .chain(program_dirs)
        .map(|dir| dir.join(&relative))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NotFound {
            name: name.into(),
            looked: relative.display().to_string(),
        })
}
