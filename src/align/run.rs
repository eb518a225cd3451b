//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::checkpoint::{self, Skipped};
use super::config::Config;
use super::factors::FactorSet;
use super::log::{Line, Logs};
use super::model::{GradientModel, UnetGrad};
use super::source::Source;
use super::trainer::{Record, Trainer};
use super::{Error, Result, trace};
use crate::bundle::{Bundle, Part};
use crate::cli;
use crate::data::axes::Axes;
use crate::data::dataset::Dataset;
use crate::data::pairs::{self, Pairs};
use crate::device::{Cpu, Device};
use crate::diffusion::schedule::SchedulerConfig;
use crate::fsio;
use crate::runtime::{Ep, Runtime, SessionOptions};
use crate::weights::lora::{KohyaNames, write_diffusers, write_kohya};

/// The diffusers LoRA.
const LORA: &str = "pytorch_lora_weights.safetensors";
/// The kohya LoRA.
const KOHYA: &str = "kohya_lora_weights.safetensors";
/// The pairs, in the order they are trained on.
const PAIRS: &str = "pairs.jsonl";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";
const FORMAT: &str = "popalign-finetune-1";

/// Where pairs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairSource {
    /// Drawn from the data set, with the target shares of this axes file (or of the data set's or
    /// the bundle's own).
    Drawn(Option<PathBuf>),
    /// A file of pairs.
    File(PathBuf),
}

/// How a run is carried out; nothing of this is meant to change its numbers.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Provider, device and threads.
    pub session: SessionOptions,
    /// Samples the network takes at once; the whole batch by default.
    pub micro_batch: Option<usize>,
    /// Steps between checkpoints.
    pub save_every: u32,
    /// Checkpoints kept.
    pub keep: usize,
    /// Whether to go on with a run that is in the output folder.
    pub resume: bool,
    /// Folder for a file per step with everything of it.
    pub trace: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// The bundle.
    pub model: PathBuf,
    /// The data set.
    pub data: PathBuf,
    /// The output folder.
    pub out: PathBuf,
    /// The pairs.
    pub pairs: PairSource,
    /// What the numbers depend on.
    pub config: Config,
    /// What they don't.
    pub environment: Environment,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Training is about to start or go on.
    Start {
        /// Updates done before.
        done: u32,
        /// Updates in all.
        steps: u32,
        /// Trained parameters.
        parameters: usize,
        /// Pairs in the list.
        pairs: usize,
    },
    /// A subject that gives no pairs.
    LeftOut(&'a str),
    /// A checkpoint that was passed over.
    Skipped(&'a Skipped),
    /// A step is done.
    Step(&'a Line),
    /// A checkpoint is complete.
    Saved(&'a Path),
}

/// How a run ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All steps are done and the LoRA is written.
    Done,
    /// The user interrupted after so many updates; they are saved.
    Interrupted(u32),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    format: String,
    config: Map<String, Value>,
    inputs: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Map<String, Value>>,
}

/// Fine-tunes a LoRA, or goes on with an interrupted run.
///
/// # Errors
/// See [`Error`]; a run that fails has saved what it had.
pub fn run(request: &Request, observe: &mut dyn FnMut(Event<'_>)) -> Result<Finish> {
    let Request {
        config,
        environment,
        out,
        ..
    } = request;
    config.check()?;
    let options = on_cpu(&environment.session)?;
    let bundle = Bundle::open(&request.model)?;
    bundle.path(Part::UnetGrad)?;
    let factors = FactorSet::new(bundle.lora()?, config.rank)?;
    let scheduler = bundle.dir().join("scheduler/scheduler_config.json");
    let scheduler = SchedulerConfig::read(&scheduler)?;
    let dataset = Dataset::open(&request.data)?;
    let (pairs, pairs_hash) = find_pairs(request, &bundle, &dataset)?;
    let runtime = Runtime::load()?;
    let manifest = describe(request, &bundle, &dataset, pairs_hash, &runtime)?;
    let model = UnetGrad::open(&runtime, &bundle, &options, &dataset)?;

    fsio::create_dir_all(out)?;
    let _lock = lock(out)?;
    begin(request, &manifest)?;
    fsio::write(out.join(PAIRS), pairs.to_jsonl())?;
    for reason in &pairs.left_out {
        observe(Event::LeftOut(reason));
    }
    let source = Source::new(dataset, pairs, &scheduler);
    let micro_batch = environment.micro_batch.unwrap_or(config.batch);
    let mut trainer = Trainer::new(Cpu, model, factors, config.clone(), source, micro_batch)?;
    if environment.resume {
        let (snapshot, skipped) = checkpoint::newest(out, &trainer.factors)?;
        skipped.iter().for_each(|s| observe(Event::Skipped(s)));
        if let Some(snapshot) = snapshot {
            trainer.restore(&snapshot)?;
        }
    }
    let finish = train(&mut trainer, request, observe)?;
    if finish == Finish::Done {
        conclude(&trainer, request, &bundle, manifest)?;
    }
    Ok(finish)
}

/// The session options of a training run, or why it can't run there.
fn on_cpu(options: &SessionOptions) -> Result<SessionOptions> {
    match options.ep {
        Ep::Auto | Ep::Cpu => Ok(SessionOptions {
            ep: Ep::Cpu,
            ..options.clone()
        }),
        ep => Err(Error::Provider {
            ep,
            reason: match crate::device::cuda::probe() {
                Err(missing) => missing.to_string(),
                Ok(_) => "its device-resident step is not built yet".to_owned(),
            },
        }),
    }
}

/// The pairs, and a hash of what they were made from.
fn find_pairs(request: &Request, bundle: &Bundle, dataset: &Dataset) -> Result<(Pairs, String)> {
    match &request.pairs {
        PairSource::File(path) => {
            let hash = fsio::sha256(path)?;
            Ok((pairs::read(path, dataset)?, format!("file:{hash}")))
        }
        PairSource::Drawn(axes) => {
            let own = Some(dataset.dir().join("axes.toml")).filter(|path| path.is_file());
            let path = axes.clone().or(own).or_else(|| bundle.file("axes.toml"));
            let axes = path.as_deref().map(Axes::load).transpose()?;
            let hash = match &path {
                Some(path) => format!("drawn:{}", fsio::sha256(path)?),
                None => "drawn".to_owned(),
            };
            let count = request.config.steps as usize * request.config.pairs_per_step();
            let seed = request.config.pair_seed;
            Ok((pairs::draw(dataset, axes.as_ref(), seed, count)?, hash))
        }
    }
}

fn describe(
    request: &Request,
    bundle: &Bundle,
    dataset: &Dataset,
    pairs: String,
    runtime: &Runtime,
) -> Result<Manifest> {
    let graph = bundle.part(Part::UnetGrad)?;
    let used = |w: &&crate::bundle::WeightFile| {
        w.links
            .iter()
            .any(|link| graph.weights.contains(&link.path))
    };
    let weights: Vec<&str> = bundle
        .config()
        .weights
        .iter()
        .filter(used)
        .map(|w| w.sha256.as_str())
        .collect();
    let data = serde_json::to_string(&dataset.manifest().outcome.as_ref().map(|o| &o.sha256));
    let data = data.map_err(|source| Error::Json {
        path: dataset.dir().to_path_buf(),
        what: "a data set",
        source,
    })?;
    let inputs = [
        ("unet_grad", graph.sha256.clone()),
        ("weights", fsio::sha256_bytes(weights.join("+").as_bytes())),
        ("data", fsio::sha256_bytes(data.as_bytes())),
        ("pairs", pairs),
    ];
    let versions = [
        ("popalign", env!("CARGO_PKG_VERSION").to_owned()),
        ("onnxruntime", runtime.version()),
    ];
    let own = |entries: Vec<(&str, String)>| {
        entries
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v))
            .collect()
    };
    Ok(Manifest {
        format: FORMAT.to_owned(),
        config: to_map(&request.config),
        inputs: own(inputs.into()),
        versions: own(versions.into()),
        outcome: None,
    })
}

/// A plain structure as a JSON object.
fn to_map(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn lock(out: &Path) -> Result<File> {
    let path = out.join(LOCK);
    let failed = |source| fsio::Error {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked {
            dir: out.to_path_buf(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

/// Looks at what is in the output folder: nothing, or a run that may be gone on with.
fn begin(request: &Request, now: &Manifest) -> Result<()> {
    let path = request.out.join(MANIFEST);
    if !path.is_file() {
        return write_json(&path, "a manifest", now);
    }
    if !request.environment.resume {
        return Err(Error::Exists {
            dir: request.out.clone(),
        });
    }
    let what = "a fine-tuning run's manifest";
    let was: Manifest =
        serde_json::from_slice(&fsio::read(&path)?).map_err(|source| Error::Json {
            path: path.clone(),
            what,
            source,
        })?;
    // More steps of a schedule that doesn't ask how many there are is the same run, longer.
    let longer = |key: &str| key == "steps" && !request.config.schedule.needs_total();
    let facts = |m: &Manifest| -> BTreeMap<String, String> {
        let config = m.config.iter().map(|(k, v)| (k.clone(), v.to_string()));
        let inputs = m.inputs.iter().map(|(k, v)| (k.clone(), v.clone()));
        config.chain(inputs).filter(|(k, _)| !longer(k)).collect()
    };
    let (old, new) = (facts(&was), facts(now));
    let differing = old
        .keys()
        .chain(new.keys())
        .find(|key| old.get(*key) != new.get(*key));
    if let Some(key) = differing {
        let value = |facts: &BTreeMap<String, String>| {
            facts.get(key).map_or("nothing", String::as_str).to_owned()
        };
        return Err(Error::Changed {
            path,
            key: key.clone(),
            was: value(&old),
            now: value(&new),
        });
    }
    if was.versions != now.versions {
        tracing::warn!(
            "the run was begun with other versions ({:?}); it goes on, but not bit for bit",
            was.versions
        );
    }
    write_json(&path, what, now)
}

fn train<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let (config, environment) = (&request.config, &request.environment);
    observe(Event::Start {
        done: trainer.done(),
        steps: config.steps,
        parameters: trainer.factors.parameters(),
        pairs: trainer.source.pairs().list.len(),
    });
    let mut logs = Logs::open(&request.out, trainer.done())?;
    if let Some(dir) = &environment.trace {
        fsio::create_dir_all(dir)?;
    }
    while trainer.done() < config.steps {
        if cli::interrupted() {
            save(trainer, request, &logs, observe)?;
            return Ok(Finish::Interrupted(trainer.done()));
        }
        let start = Instant::now();
        let mut record = environment.trace.as_ref().map(|_| Record::default());
        let report = match trainer.step(record.as_mut()) {
            Ok(report) => report,
            Err(error @ (Error::NonFinite { .. } | Error::NonFiniteBatch { .. })) => {
                save(trainer, request, &logs, observe)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let line = Line::new(&report, config.batch, start.elapsed().as_secs_f64());
        logs.append(&line)?;
        if let (Some(dir), Some(record)) = (&environment.trace, &record) {
            trace::write(dir, config, &trainer.factors, &report, record)?;
        }
        observe(Event::Step(&line));
        if report.step.is_multiple_of(environment.save_every.max(1)) || report.step == config.steps
        {
            save(trainer, request, &logs, observe)?;
        }
    }
    Ok(Finish::Done)
}

fn save<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    request: &Request,
    logs: &Logs,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    // The log must not be shorter than the checkpoint says.
    logs.sync()?;
    let (out, keep) = (&request.out, request.environment.keep);
    let dir = checkpoint::save(out, &trainer.factors, &trainer.snapshot()?, keep)?;
    observe(Event::Saved(&dir));
    Ok(())
}

/// Writes the LoRA files and completes the manifest.
fn conclude<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    request: &Request,
    bundle: &Bundle,
    mut manifest: Manifest,
) -> Result<()> {
    let out = &request.out;
    let snapshot = trainer.snapshot()?;
    let adapter = trainer
        .factors
        .adapter(snapshot.ema.as_ref().unwrap_or(&snapshot.state.p));
    write_diffusers(&out.join(LORA), &adapter)?;
    let (naming, base) = kohya(&bundle.json("unet/config.json")?);
    write_kohya(&out.join(KOHYA), &adapter, naming, base)?;
    let mut hashes = Map::new();
    for name in [LORA, KOHYA, PAIRS] {
        hashes.insert(name.to_owned(), fsio::sha256(&out.join(name))?.into());
    }
    let outcome = json!({
        "steps": trainer.done(),
        "parameters": trainer.factors.parameters(),
        "pairs": trainer.source.pairs().list.len(),
        "left_out": trainer.source.pairs().left_out,
        "sha256": hashes,
    });
    manifest.outcome = Some(to_map(&outcome));
    write_json(&out.join(MANIFEST), "a manifest", &manifest)
}

/// How kohya names the blocks and the base of a UNet with this configuration.
fn kohya(unet: &Value) -> (KohyaNames, Option<&'static str>) {
    let is = |key: &str, value: Value| unet.get(key) == Some(&value);
    if is("block_out_channels", json!([320, 640, 1280]))
        && is("addition_embed_type", json!("text_time"))
    {
        (KohyaNames::Sgm, Some("sdxl_base_v1-0"))
    } else if is("block_out_channels", json!([320, 640, 1280, 1280]))
        && is("cross_attention_dim", json!(768))
    {
        (KohyaNames::Diffusers, Some("sd_v1"))
    } else {
        (KohyaNames::Diffusers, None)
    }
}

pub(super) fn write_json(path: &Path, what: &'static str, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        what,
        source,
    })?;
    Ok(fsio::write(path, text + "\n")?)
}
