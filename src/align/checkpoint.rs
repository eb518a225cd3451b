//! Checkpoints: folders that are complete once their manifest is there.
//!
//! `checkpoints/step-NNNNNN/` holds `state.safetensors` (factors, moments and their average, in
//! single precision), `pytorch_lora_weights.safetensors` (the same factors for other programs) and,
//! written last, `checkpoint.json` with the step and the SHA-256 of both. A folder without it, or
//! whose hashes differ, is not used, and the run says so. Random numbers are addressed by the
//! step, so there is nothing else to keep. A new checkpoint is complete before an old one goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::factors::FactorSet;
use super::trainer::Snapshot;
use super::{Error, Result};
use crate::device::State;
use crate::fsio;
use crate::weights::lora::write_diffusers;
use crate::weights::{NewTensor, Weights, write_safetensors};

const FOLDER: &str = "checkpoints";
const MANIFEST: &str = "checkpoint.json";
const STATE: &str = "state.safetensors";
const LORA: &str = "pytorch_lora_weights.safetensors";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    step: u32,
    sha256: BTreeMap<String, String>,
}

const FORMAT: &str = "popalign-checkpoint-1";

/// A checkpoint that was found and can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub dir: PathBuf,
    /// Why.
    pub reason: String,
}

/// Writes a checkpoint of a run into `out`, then removes all but the newest `keep`.
///
/// # Errors
/// When a file cannot be written; older checkpoints are then still there.
pub fn save(out: &Path, factors: &FactorSet, snapshot: &Snapshot, keep: usize) -> Result<PathBuf> {
    let dir = out.join(FOLDER).join(format!("step-{:06}", snapshot.step));
    fsio::create_dir_all(&dir)?;
    // A folder of this name may be left from a killed run: it is incomplete from here on.
    fsio::remove_if_present(dir.join(MANIFEST))?;
    let buffers = [
        ("lora", Some(&snapshot.state.p)),
        ("exp_avg", Some(&snapshot.state.m)),
        ("exp_avg_sq", Some(&snapshot.state.v)),
        ("ema", snapshot.ema.as_ref()),
    ];
    let mut tensors = Vec::new();
    for (prefix, buffer) in buffers {
        let Some(buffer) = buffer else { continue };
        for (factor, part) in factors.parts(buffer) {
            let name = format!("{prefix}.{}", factor.name);
            tensors.push(NewTensor::f32(name, &factor.shape, part));
        }
    }
    write_safetensors(dir.join(STATE), &tensors, &BTreeMap::new())?;
    let result = snapshot.ema.as_ref().unwrap_or(&snapshot.state.p);
    write_diffusers(&dir.join(LORA), &factors.adapter(result))?;
    let sha256 = [STATE, LORA]
        .into_iter()
        .map(|name| Ok((name.to_owned(), fsio::sha256(&dir.join(name))?)))
        .collect::<Result<_>>()?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        step: snapshot.step,
        sha256,
    };
    super::run::write_json(&dir.join(MANIFEST), "a checkpoint", &manifest)?;
    remove_old(out, keep.max(1))?;
    Ok(dir)
}

/// Finds the newest complete checkpoint of a run and what was passed over.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(out: &Path, factors: &FactorSet) -> Result<(Option<Snapshot>, Vec<Skipped>)> {
    let mut skipped = Vec::new();
    for dir in folders(out)?.into_iter().rev() {
        match load(&dir, factors) {
            Ok(snapshot) => return Ok((Some(snapshot), skipped)),
            Err(reason) => skipped.push(Skipped { dir, reason }),
        }
    }
    Ok((None, skipped))
}

/// Whether there is any checkpoint folder.
pub fn any(out: &Path) -> bool {
    folders(out).is_ok_and(|found| !found.is_empty())
}

/// The checkpoint folders, oldest first.
fn folders(out: &Path) -> Result<Vec<PathBuf>> {
    let root = out.join(FOLDER);
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&root).map_err(|source| fsio::Error {
        action: "read",
        path: root.clone(),
        source,
    })?;
    let step = |path: &PathBuf| -> Option<u32> {
        path.file_name()?
            .to_str()?
            .strip_prefix("step-")?
            .parse()
            .ok()
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((step(&path)?, path)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn load(dir: &Path, factors: &FactorSet) -> std::result::Result<Snapshot, String> {
    let path = dir.join(MANIFEST);
    if !path.is_file() {
        return Err(format!("it has no {MANIFEST}: its writing was cut short"));
    }
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let bytes = fsio::read(&path).map_err(|e| text(&e))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| text(&e))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "its format is {}, expected {FORMAT}",
            manifest.format
        ));
    }
    for (name, expected) in &manifest.sha256 {
        let found = fsio::sha256(&dir.join(name)).map_err(|e| text(&e))?;
        if found != *expected {
            return Err(format!("{name} is not what was written"));
        }
    }
    let weights = Weights::open_files([dir.join(STATE)]).map_err(|e| text(&e))?;
    let buffer = |prefix: &str| -> crate::weights::Result<Vec<f32>> {
        let scope = weights.scope(prefix);
        let mut buffer = Vec::with_capacity(factors.layout().total());
        for factor in factors.list() {
            let shape = factor.shape.map(|d| d as u64);
            buffer.extend(scope.get(&factor.name, &shape)?.read_f32()?);
        }
        Ok(buffer)
    };
    let get = |prefix: &str| buffer(prefix).map_err(|e| text(&e));
    let ema = weights.iter().any(|t| t.name.starts_with("ema."));
    Ok(Snapshot {
        step: manifest.step,
        state: State {
            p: get("lora")?,
            m: get("exp_avg")?,
            v: get("exp_avg_sq")?,
        },
        ema: if ema { Some(get("ema")?) } else { None },
    })
}

/// Removes all but the newest `keep` checkpoints. The manifest goes first, so that a half-removed
/// one is not mistaken for a whole one.
fn remove_old(out: &Path, keep: usize) -> Result<()> {
    let all = folders(out)?;
    for dir in &all[..all.len().saturating_sub(keep)] {
        fsio::remove_if_present(dir.join(MANIFEST))?;
        fs::remove_dir_all(dir).map_err(|source| {
            Error::Io(fsio::Error {
                action: "remove",
                path: dir.clone(),
                source,
            })
        })?;
    }
    Ok(())
}
