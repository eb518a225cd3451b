//! Checkpoints: folders that appear whole.
//!
//! `checkpoints/step-NNNNNN/` holds `state.safetensors` (factors, their average and moments, in
//! single precision or as 8-bit codes with their blocks' scales; Prodigy's sum and start), `pytorch_lora_weights.safetensors` (the same factors for other programs) and
//! `checkpoint.json` with the step, what the run remembers besides (its doubts and the draws under way) and the
//! SHA-256 of both. It is written under another name and
//! renamed. One whose hashes differ, or that lacks a file, is not used, and the run says so. Random
//! numbers are addressed by the step, so there is nothing else to keep. A new checkpoint is
//! complete before an old one goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Result;
use super::draws::Seen;
use super::factors::{Factor, FactorSet};
use super::trainer::Snapshot;
use super::watch::Watch;
use crate::base::fsio::AtomicDir;
use crate::base::{fsio, json};
use crate::device::blockwise::BLOCK;
use crate::device::{Codes, Estimate, Moments, Prodigy, State};
use crate::lora::write_diffusers;
use crate::tensors::{NewTensor, Tensor, Weights, write_safetensors};

const FOLDER: &str = "checkpoints";
const MANIFEST: &str = "checkpoint.json";
const STATE: &str = "state.safetensors";
/// Prefixes of the moments' tensors, torch's names.
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";
/// Prefixes of Prodigy's other tensors, prodigyopt's names.
const SUM: &str = "s";
const START: &str = "p0";
/// The prefix of the average's tensors, and of those that a round's pictures are drawn with.
const EMA: &str = "ema";
const OLD: &str = "old";
const LORA: &str = "pytorch_lora_weights.safetensors";

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotManifest {
    format: String,
    step: u32,
    /// See [`Snapshot::watch`].
    doubt: [Option<u32>; 2],
    /// See [`Snapshot::draws`]: of each its number, pairs seen and the bits of their lead.
    draws: Vec<(u32, u32, u64)>,
    /// The bits of Prodigy's estimate: d, the largest, the numerator; and its updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    estimate: Option<(u64, u64, u64, u32)>,
    sha256: BTreeMap<String, String>,
}

const FORMAT: &str = "popalign-checkpoint-2";

/// A checkpoint that was found and can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its folder.
    pub dir: PathBuf,
    /// Why.
    pub reason: String,
}

/// How often a run saves, and what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavePlan {
    /// Steps between checkpoints.
    pub every: u32,
    /// Steps of the run; the last one is saved too.
    pub steps: u32,
    /// Checkpoints kept.
    pub keep: usize,
}

impl SavePlan {
    /// Whether an unbroken run saves after this step.
    pub fn saves(&self, step: u32) -> bool {
        step.is_multiple_of(self.every.max(1)) || step == self.steps
    }
}

/// Writes a checkpoint of a run into `out`, then removes those that `plan` does not keep.
///
/// # Errors
/// When a file cannot be written; older checkpoints are then still there.
pub fn save(
    out: &Path,
    factors: &FactorSet,
    snapshot: &Snapshot,
    plan: SavePlan,
) -> Result<PathBuf> {
    let dir = path(out, snapshot.step);
    fsio::create_dir_all(out.join(FOLDER))?;
    let staged = AtomicDir::create(&dir)?;
    write(staged.path(), factors, snapshot)?;
    staged.commit()?;
    prune(out, snapshot.step, plan, snapshot.watch.since())?;
    Ok(dir)
}

fn path(out: &Path, step: u32) -> PathBuf {
    out.join(FOLDER).join(format!("step-{step:06}"))
}

fn write(dir: &Path, factors: &FactorSet, snapshot: &Snapshot) -> Result<()> {
    let mut tensors = numbers(factors, "lora", &snapshot.state.p);
    match &snapshot.state.moments {
        Moments::Full { m, v } => {
            tensors.extend(numbers(factors, FIRST, m));
            tensors.extend(numbers(factors, SECOND, v));
        }
        Moments::Blockwise { m, v, .. } => {
            tensors.extend(codes(factors, FIRST, m));
            tensors.extend(codes(factors, SECOND, v));
        }
        Moments::Prodigy(own) => {
            for (prefix, buffer) in [FIRST, SECOND, SUM, START].iter().zip(own.buffers()) {
                tensors.extend(numbers(factors, prefix, buffer));
            }
        }
    }
    if let Some(ema) = &snapshot.ema {
        tensors.extend(numbers(factors, EMA, ema));
    }
    if let Some(old) = &snapshot.old {
        tensors.extend(numbers(factors, OLD, old));
    }
    write_safetensors(dir.join(STATE), &tensors, &BTreeMap::new())?;
    let result = snapshot.ema.as_ref().unwrap_or(&snapshot.state.p);
    write_diffusers(&dir.join(LORA), &factors.adapter(result))?;
    let sha256 = [STATE, LORA]
        .into_iter()
        .map(|name| Ok((name.to_owned(), fsio::sha256(&dir.join(name))?)))
        .collect::<Result<_>>()?;
    let manifest = SnapshotManifest {
        format: FORMAT.to_owned(),
        step: snapshot.step,
        doubt: snapshot.watch.0,
        draws: (snapshot.draws.iter())
            .map(|(draw, seen)| (*draw, seen.pairs, seen.lead.to_bits()))
            .collect(),
        estimate: match &snapshot.state.moments {
            Moments::Prodigy(own) => Some(estimate_bits(&own.estimate)),
            _ => None,
        },
        sha256,
    };
    Ok(json::write(&dir.join(MANIFEST), "a checkpoint", &manifest)?)
}

/// A tensor for each factor of a buffer.
fn numbers<'a>(factors: &'a FactorSet, prefix: &str, buffer: &'a [f32]) -> Vec<NewTensor<'a>> {
    let tensor = |(factor, part): (&Factor, &'a [f32])| {
        NewTensor::f32(format!("{prefix}.{}", factor.name), &factor.shape, part)
    };
    factors.parts(buffer).map(tensor).collect()
}

/// Two tensors for each factor: its codes and the scales of its blocks.
fn codes<'a>(
    factors: &'a FactorSet,
    prefix: &str,
    of: &'a Codes<Vec<f32>, Vec<u8>>,
) -> Vec<NewTensor<'a>> {
    let mut absmax = of.absmax.as_slice();
    let mut tensors = Vec::new();
    for (Factor { name, shape }, part) in factors.parts(&of.codes) {
        let (own, rest) = absmax.split_at(part.len().div_ceil(BLOCK));
        absmax = rest;
        let (code, scale) = (
            format!("{prefix}.codes.{name}"),
            format!("{prefix}.absmax.{name}"),
        );
        tensors.push(NewTensor::u8(code, shape, part));
        tensors.push(NewTensor::f32(scale, &[own.len()], own));
    }
    tensors
}

/// Finds the newest complete checkpoint of a run and what was passed over.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(out: &Path, factors: &FactorSet) -> Result<(Option<Snapshot>, Vec<Skipped>)> {
    let mut skipped = Vec::new();
    for (_, dir) in folders(out)?.into_iter().rev() {
        match load(&dir, factors) {
            Ok(snapshot) => return Ok((Some(snapshot), skipped)),
            Err(reason) => skipped.push(Skipped { dir, reason }),
        }
    }
    Ok((None, skipped))
}

/// Whether there is any checkpoint.
///
/// # Errors
/// When the folder cannot be read.
pub fn any(out: &Path) -> Result<bool> {
    Ok(!folders(out)?.is_empty())
}

/// The checkpoint folders and the steps their names say, oldest first.
fn folders(out: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let root = out.join(FOLDER);
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&root).map_err(fsio::at("read", &root))?;
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
    Ok(found)
}

fn load(dir: &Path, factors: &FactorSet) -> std::result::Result<Snapshot, String> {
    let path = dir.join(MANIFEST);
    if !path.is_file() {
        return Err(format!("it has no {MANIFEST}: its writing was cut short"));
    }
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let bytes = fsio::read(&path).map_err(|e| text(&e))?;
    let manifest: SnapshotManifest = serde_json::from_slice(&bytes).map_err(|e| text(&e))?;
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
    let get = |prefix: &str| read(&weights, factors, prefix, shape, Tensor::read_f32);
    let snapshot = || -> crate::tensors::Result<Snapshot> {
        let state = State {
            p: get("lora")?,
            moments: if let Some(bits) = manifest.estimate {
                Moments::Prodigy(Prodigy {
                    m: get(FIRST)?,
                    v: get(SECOND)?,
                    s: get(SUM)?,
                    start: get(START)?,
                    estimate: estimate_of(bits),
                })
            } else if has(&weights, &format!("{FIRST}.codes.")) {
                Moments::Blockwise {
                    blocks: factors.layout().blocks(),
                    m: read_codes(&weights, factors, FIRST)?,
                    v: read_codes(&weights, factors, SECOND)?,
                }
            } else {
                Moments::Full {
                    m: get(FIRST)?,
                    v: get(SECOND)?,
                }
            },
        };
        let optional = |prefix: &str| {
            let there = has(&weights, &format!("{prefix}."));
            there.then(|| get(prefix)).transpose()
        };
        Ok(Snapshot {
            step: manifest.step,
            state,
            ema: optional(EMA)?,
            watch: Watch(manifest.doubt),
            draws: manifest.draws.iter().map(seen).collect(),
            old: optional(OLD)?,
        })
    };
    snapshot().map_err(|e| text(&e))
}

fn estimate_bits(of: &Estimate) -> (u64, u64, u64, u32) {
    let [d, most, numerator] = [of.d, of.most, of.numerator].map(f64::to_bits);
    (d, most, numerator, of.updates)
}

fn estimate_of((d, most, numerator, updates): (u64, u64, u64, u32)) -> Estimate {
    let [d, most, numerator] = [d, most, numerator].map(f64::from_bits);
    Estimate {
        d,
        most,
        numerator,
        updates,
    }
}

fn seen(&(draw, pairs, lead): &(u32, u32, u64)) -> (u32, Seen) {
    let lead = f64::from_bits(lead);
    (draw, Seen { pairs, lead })
}

fn shape(factor: &Factor) -> Vec<u64> {
    factor.shape.map(|d| d as u64).to_vec()
}

fn has(weights: &Weights, prefix: &str) -> bool {
    weights.iter().any(|t| t.name.starts_with(prefix))
}

/// The factors' tensors under a prefix, one after another.
fn read<T>(
    weights: &Weights,
    factors: &FactorSet,
    prefix: &str,
    shape: impl Fn(&Factor) -> Vec<u64>,
    values: fn(&Tensor) -> crate::tensors::Result<Vec<T>>,
) -> crate::tensors::Result<Vec<T>> {
    let scope = weights.scope(prefix);
    let mut buffer = Vec::new();
    for factor in factors.list() {
        buffer.extend(values(&scope.get(&factor.name, &shape(factor))?)?);
    }
    Ok(buffer)
}

fn read_codes(
    weights: &Weights,
    factors: &FactorSet,
    prefix: &str,
) -> crate::tensors::Result<Codes<Vec<f32>, Vec<u8>>> {
    let blocks = |factor: &Factor| {
        let elements = factor.shape[0] * factor.shape[1];
        vec![elements.div_ceil(BLOCK) as u64]
    };
    let (codes, absmax) = (format!("{prefix}.codes"), format!("{prefix}.absmax"));
    Ok(Codes {
        codes: read(weights, factors, &codes, shape, Tensor::read_bytes)?,
        absmax: read(weights, factors, &absmax, blocks, Tensor::read_f32)?,
    })
}

/// Leaves the checkpoints that an unbroken run has there after saving step `newest`: that one and
/// the planned ones before it, `plan.keep` in all. Those that an interruption made between two
/// planned ones go, and so do later ones, which [`newest`] passed over. The newest planned one that is older than
/// a `doubt` stays as well.
///
/// # Errors
/// When the folder refuses.
pub fn prune(out: &Path, newest: u32, plan: SavePlan, doubt: Option<u32>) -> Result<()> {
    fsio::remove_partial(&out.join(FOLDER))?;
    let found = folders(out)?;
    let planned = |step: u32| step < newest && plan.saves(step);
    let before = |step: &u32| planned(*step) && doubt.is_some_and(|since| *step < since);
    let good = found.iter().map(|(step, _)| *step).rfind(before);
    let mut kept = 0;
    for (step, dir) in found.into_iter().rev() {
        let counts = step == newest || (planned(step) && kept < plan.keep);
        let keep = counts || good == Some(step);
        if keep {
            kept += 1;
        } else {
            remove(&dir)?;
        }
    }
    Ok(())
}

/// Removes the checkpoints of step `since` and later; gives the newest one from before.
///
/// # Errors
/// When the folder refuses.
pub fn keep_before(out: &Path, since: u32) -> Result<Option<PathBuf>> {
    let (before, later): (Vec<_>, Vec<_>) = folders(out)?
        .into_iter()
        .partition(|(step, _)| *step < since);
    for (_, dir) in later {
        remove(&dir)?;
    }
    Ok(before.into_iter().next_back().map(|(_, dir)| dir))
}

fn remove(dir: &Path) -> Result<()> {
    // Under its name a checkpoint is whole to the last.
    let gone = dir.with_file_name(format!("{}removed", fsio::PARTIAL));
    let failed = fsio::at("remove", dir);
    fs::rename(dir, &gone).map_err(failed)?;
    Ok(fs::remove_dir_all(&gone).map_err(failed)?)
}

#[cfg(test)]
mod tests;
