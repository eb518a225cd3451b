//! Checking that a bundle is what was exported.
//!
//! A hard link shares its bytes with the checkpoint, so whoever writes into the checkpoint's file
//! changes the bundle too. Size and time tell; a file is hashed only if its time differs (it may
//! have been copied, or touched).

use std::path::Path;

use super::identity::Identity;
use super::manifest::{BundleManifest, WeightFile, modified};
use super::{Error, Result};

/// What became of a file.
enum State {
    Same,
    Missing,
    Changed,
}

/// Checks every file that the manifest names.
pub(super) fn verify(dir: &Path, manifest: &BundleManifest) -> Result<()> {
    let damaged = |file: &str, problem: String| Error::Damaged {
        dir: dir.to_path_buf(),
        file: file.to_owned(),
        problem,
    };
    for part in manifest.parts.values() {
        let Ok(metadata) = dir.join(&part.model).metadata() else {
            return Err(damaged(&part.model, "is missing".into()));
        };
        if metadata.len() != part.bytes {
            let problem = format!("has {} bytes, exported were {}", metadata.len(), part.bytes);
            return Err(damaged(&part.model, problem));
        }
    }
    for file in manifest.files.keys() {
        if !dir.join(file).is_file() {
            return Err(damaged(file, "is missing".into()));
        }
    }
    for weights in &manifest.weights {
        for link in &weights.links {
            match state(&dir.join(&link.path), weights, link.modified)? {
                State::Same => {}
                State::Missing => return Err(damaged(&link.path, "is missing".into())),
                State::Changed => match &weights.source {
                    // The same file as the source's: say what the user knows by name.
                    Some(source) if !link.copied => return Err(changed(dir, source)),
                    _ => return Err(damaged(&link.path, "was changed since the export".into())),
                },
            }
        }
        if let (Some(source), false) = (&weights.source, manifest.detached) {
            match state(source, weights, weights.modified)? {
                State::Same => {}
                State::Changed => return Err(changed(dir, source)),
                State::Missing => {
                    return Err(Error::SourceMoved {
                        dir: dir.to_path_buf(),
                        path: source.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

fn changed(dir: &Path, source: &Path) -> Error {
    Error::SourceChanged {
        dir: dir.to_path_buf(),
        path: source.to_path_buf(),
    }
}

/// Compares a file with what was recorded of it.
fn state(path: &Path, expected: &WeightFile, time: u64) -> Result<State> {
    let Ok(metadata) = path.metadata() else {
        return Ok(State::Missing);
    };
    if metadata.len() != expected.bytes {
        return Ok(State::Changed);
    }
    if modified(&metadata) == time {
        return Ok(State::Same);
    }
    tracing::info!("{}: its time differs, comparing its bytes", path.display());
    Ok(if Identity::of(path)? == expected.identity {
        State::Same
    } else {
        State::Changed
    })
}
