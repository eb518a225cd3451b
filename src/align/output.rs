//! The output folder: its lock, its manifest, and the files that stand in it at the end.
//!
//! ```text
//! manifest.json                        configuration, versions, hashes of what went in and came out
//! pairs.jsonl                          the pairs, in the order they are trained on
//! log.jsonl, events.out.tfevents.*     one entry a step
//! validation.jsonl                     one entry a validation, if there are any
//! rounds.jsonl                         one entry a round, of a run that draws its own pictures; no pairs then
//! checkpoints/                         the newest states of the run
//! pytorch_lora_weights.safetensors     the LoRA for diffusers
//! kohya_lora_weights.safetensors       the same for kohya, ComfyUI and the web UIs
//! README.md                            the model card
//! ```
//!
//! `manifest.json` is written before the first step and completed after the last. It says only what
//! the trained numbers depend on (no times, paths or thread counts), so that a broken and an
//! unbroken run end with the same one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json as object};

use super::config::Config;
use super::factors::FactorSet;
use super::log::ROUNDS;
use super::publish::About;
use super::trainer::Snapshot;
use super::{Error, Result, checkpoint};
use crate::base::facts::{Difference, Facts, difference};
use crate::base::{fsio, json, lock};
use crate::bundle::{Bundle, Part};
use crate::data::dataset::Dataset;
use crate::data::noise::Drawn;
use crate::data::pairs::Pairs;
use crate::data::pool::Pool;
use crate::lora::write_diffusers;
use crate::runtime::Runtime;

/// The diffusers LoRA.
const LORA: &str = "pytorch_lora_weights.safetensors";
/// The kohya LoRA.
const KOHYA: &str = "kohya_lora_weights.safetensors";
const PAIRS: &str = "pairs.jsonl";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const FORMAT: &str = "popalign-finetune-2";
/// The format of runs whose `batch` counts pictures, of which nothing can be gone on with: their
/// configuration lacks what today's says.
const IN_PICTURES: &str = "popalign-finetune-1";
/// The bundle's file with the noise schedule.
pub(super) const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunManifest {
    format: String,
    config: Map<String, Value>,
    inputs: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    /// The pictures of the data sets.
    #[serde(default)]
    drawn: Drawn,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Map<String, Value>>,
}

/// The manifest of a run about to start.
pub(super) fn describe(
    config: &Config,
    bundle: &Bundle,
    pool: &Pool,
    pairs: String,
    runtime: &Runtime,
) -> Result<RunManifest> {
    let graph = bundle.part(Part::UnetGrad)?;
    let data = |set: &Dataset| {
        let made = set.manifest();
        object!([made.layout, made.outcome.as_ref().map(|o| &o.sha256)]).to_string()
    };
    let data: String = pool.sets().iter().map(data).collect();
    let inputs = [
        ("unet_grad", graph.sha256.clone()),
        ("weights", weights(bundle, Part::UnetGrad)?),
        ("scheduler", fsio::sha256(&bundle.dir().join(SCHEDULER))?),
        ("data", fsio::sha256_bytes(data.as_bytes())),
        ("pairs", pairs),
    ];
    let versions = [
        ("popalign", env!("CARGO_PKG_VERSION").to_owned()),
        ("onnxruntime", runtime.version()),
    ];
    let own = |entries: Vec<(&str, String)>| {
        let entries = entries.into_iter();
        entries.map(|(k, v)| (k.to_owned(), v)).collect()
    };
    Ok(RunManifest {
        format: FORMAT.to_owned(),
        config: to_map(config),
        inputs: own(inputs.into()),
        versions: own(versions.into()),
        drawn: Drawn::of(pool.rows()),
        outcome: None,
    })
}

/// A hash of the weights of a part.
fn weights(bundle: &Bundle, part: Part) -> Result<String> {
    let files = bundle.weight_files(part)?;
    let files: Vec<String> = files.map(|file| file.identity.text()).collect();
    Ok(fsio::sha256_bytes(files.join("+").as_bytes()))
}

/// What made the embeddings of a caption that the data set lacks: the text encoders' graphs and weights.
pub(super) fn text_encoders(bundle: &Bundle) -> Result<Value> {
    let parts = [Part::TextEncoder, Part::TextEncoder2].into_iter();
    let there = parts.filter(|part| bundle.has(*part));
    let each = there.map(|part| Ok([bundle.part(part)?.sha256.clone(), weights(bundle, part)?]));
    Ok(object!(each.collect::<Result<Vec<_>>>()?))
}

impl RunManifest {
    /// Adds to the configuration.
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.config.insert(key.to_owned(), value);
    }
}

/// Why a run that is done ended: `outcome.ended` of its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// It took all its steps.
    Steps,
    /// A validation met the target.
    TargetDiscrepancy,
}

/// The output folder of a run, locked while this lives.
#[derive(Debug)]
pub(super) struct Output {
    dir: PathBuf,
    manifest: RunManifest,
    /// What the folder's manifest says, of a run begun before.
    found: Option<RunManifest>,
    _lock: File,
}

impl Output {
    /// Takes the folder, which holds nothing yet or a run that may be gone on with.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InPictures`], [`Error::Foreign`], [`Error::Changed`], [`Error::Locked`].
    pub(super) fn open(dir: &Path, manifest: RunManifest, resume: bool) -> Result<Self> {
        // Refused before anything is touched; what counts is the second look, under the lock.
        let look = || -> Result<Option<RunManifest>> {
            let found = begun(dir, resume)?;
            if let Some(found) = &found {
                same_run(&dir.join(MANIFEST), found, &manifest)?;
            }
            Ok(found)
        };
        look()?;
        fsio::create_dir_all(dir)?;
        let lock = lock::take(&dir.join(LOCK))?.ok_or_else(|| Error::Locked {
            dir: dir.to_path_buf(),
        })?;
        let found = look()?;
        Ok(Self {
            dir: dir.to_path_buf(),
            manifest,
            found,
            _lock: lock,
        })
    }

    /// Starts the run, or goes on after `done` steps.
    ///
    /// # Errors
    /// [`Error::Option`] if that is more than the run is to have.
    pub(super) fn begin(&mut self, done: u32, config: &Config, pairs: &Pairs) -> Result<()> {
        if done > config.steps {
            return Err(Error::Option {
                option: "steps",
                value: config.steps.to_string(),
                problem: format!("the run in {} has done {done} already", self.dir.display()),
            });
        }
        fsio::remove_partial(&self.dir)?;
        let path = self.dir.join(MANIFEST);
        let unchanged = |found: &RunManifest| {
            let outcome = found.outcome.clone();
            *found
                == RunManifest {
                    outcome,
                    ..self.manifest.clone()
                }
        };
        if let Some(found) = &self.found
            && found.versions != self.manifest.versions
        {
            tracing::warn!(
                "the run was begun with other versions ({:?}); it goes on, but not bit for bit",
                found.versions
            );
        }
        if !self.found.as_ref().is_some_and(unchanged) {
            json::write(&path, "a manifest", &self.manifest)?;
        }
        match pairs.list.is_empty() {
            true => Ok(()),
            false => Ok(fsio::write(self.dir.join(PAIRS), pairs.to_jsonl())?),
        }
    }

    /// Writes the LoRA files and completes the manifest.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn conclude(
        mut self,
        snapshot: &Snapshot,
        factors: &FactorSet,
        pairs: &Pairs,
        about: &About,
        ended: Ended,
    ) -> Result<()> {
        let adapter = factors.adapter(snapshot.ema.as_ref().unwrap_or(&snapshot.state.p));
        write_diffusers(&self.dir.join(LORA), &adapter)?;
        about.write_kohya(&self.dir, KOHYA, &adapter, snapshot.step)?;
        about.write_card(&self.dir, snapshot, factors)?;
        let mut hashes = Map::new();
        // A run that draws its own pictures has no pairs.
        let trained_on = if pairs.list.is_empty() { ROUNDS } else { PAIRS };
        for name in [LORA, KOHYA, trained_on] {
            hashes.insert(name.to_owned(), fsio::sha256(&self.dir.join(name))?.into());
        }
        self.manifest.outcome = Some(to_map(&object!({
            "steps": snapshot.step,
            "ended": ended,
            "parameters": factors.parameters(),
            "pairs": pairs.list.len(),
            "left_out": pairs.left_out,
            "off_target": pairs.off_target,
            "sha256": hashes,
        })));
        Ok(json::write(
            &self.dir.join(MANIFEST),
            "a manifest",
            &self.manifest,
        )?)
    }
}

/// The manifest of the run that is in the folder, if one is.
fn begun(dir: &Path, resume: bool) -> Result<Option<RunManifest>> {
    let path = dir.join(MANIFEST);
    let foreign = |problem: &str| Error::Foreign {
        dir: dir.to_path_buf(),
        problem: problem.to_owned(),
    };
    if !path.is_file() {
        if checkpoint::any(dir)? {
            return Err(foreign("checkpoints of a run whose manifest.json is gone"));
        }
        return Ok(None);
    }
    let bytes = fsio::read(&path)?;
    let format = serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|value| Some(value.get("format")?.as_str()?.to_owned()));
    match format.as_deref() {
        Some(FORMAT) => {}
        Some(IN_PICTURES) => {
            return Err(Error::InPictures {
                dir: dir.to_path_buf(),
            });
        }
        Some(other) => return Err(foreign(&format!("a manifest.json of format {other}"))),
        None => return Err(foreign("a manifest.json of something else")),
    }
    if !resume {
        return Err(Error::Exists {
            dir: dir.to_path_buf(),
        });
    }
    let what = "a fine-tuning run's manifest";
    Ok(Some(json::parse(&bytes, &path, what)?))
}

/// Checks that going on with `was` as `now` gives the run that `now` says.
fn same_run(path: &Path, was: &RunManifest, now: &RunManifest) -> Result<()> {
    // More steps of a schedule that doesn't ask how many there are is the same run, longer.
    let total = now.config.get("schedule").is_some_and(needs_total);
    let facts = |m: &RunManifest| -> Facts {
        let config = m.config.iter().map(|(k, v)| (k.clone(), v.to_string()));
        let inputs = m.inputs.iter().map(|(k, v)| (k.clone(), v.clone()));
        // Of epochs only that there are some counts: they shuffle.
        let seen = |(key, value): (String, String)| match key.as_str() {
            "steps" if !total => None,
            "epochs" if !total && value != "null" => Some((key, "some".to_owned())),
            _ => Some((key, value)),
        };
        config.chain(inputs).filter_map(seen).collect()
    };
    match difference(&facts(was), &facts(now)) {
        None => Ok(()),
        Some(Difference { key, was, now }) => Err(Error::Changed {
            path: path.to_path_buf(),
            key,
            was,
            now,
        }),
    }
}

/// Whether a schedule, by its name in the manifest, depends on the number of steps.
fn needs_total(schedule: &Value) -> bool {
    serde_json::from_value(schedule.clone()).is_ok_and(super::schedule::LrSchedule::needs_total)
}

/// A plain structure as a JSON object.
fn to_map(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}
