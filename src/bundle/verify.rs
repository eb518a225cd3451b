//! Checking that a bundle is what was exported.
//!
//! A hard link shares its bytes with the checkpoint, so whoever writes into the checkpoint's file
//! changes the bundle too (a reflink doesn't). Size and time tell; a file is hashed only if its time differs (it may
//! have been copied, or touched).

use std::path::Path;

use super::identity::Identity;
use super::manifest::{BundleManifest, WeightFile, ZEROS, modified};
use super::{Error, Part, Result};
use crate::base::fsio;

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
    let zeros = zeros(manifest);
    for file in manifest.files.keys().chain(&zeros) {
        match dir.join(file).metadata() {
            Ok(metadata) if metadata.len() == 0 && !was_empty(manifest, file) => {
                return Err(damaged(file, "is empty".into()));
            }
            Ok(metadata) if metadata.is_file() => {}
            _ => return Err(damaged(file, "is missing".into())),
        }
    }
    for weights in &manifest.weights {
        for link in &weights.links {
            match state(&dir.join(&link.path), weights, link.modified)? {
                State::Same => {}
                State::Missing => return Err(damaged(&link.path, "is missing".into())),
                State::Changed => match &weights.source {
                    // The same file as the source's: say what the user knows by name.
                    Some(source) if !link.copied && !link.reflink => {
                        return Err(changed(dir, source));
                    }
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

/// The files of zeros that the graphs with LoRA inputs point into.
fn zeros(manifest: &BundleManifest) -> Vec<String> {
    let takes_lora = |part: &&Part| matches!(part, Part::Unet | Part::UnetGrad);
    let lora = manifest.lora.as_ref();
    let any = lora.is_some_and(|lora| !lora.modules.is_empty());
    let parts = manifest.parts.keys().filter(takes_lora).filter(|_| any);
    parts
        .map(|part| format!("{}/{ZEROS}", part.folder()))
        .collect()
}

/// Whether a file of the checkpoint was exported empty.
fn was_empty(manifest: &BundleManifest, file: &str) -> bool {
    let hash = manifest.files.get(file);
    hash.is_some_and(|hash| *hash == fsio::sha256_bytes(b""))
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
