//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{self, Plan, Skipped};
use super::config::Config;
use super::factors::FactorSet;
use super::log::{Line, Logs};
use super::model::{GradientModel, UnetGrad};
use super::output::{self, Output};
use super::ranks::{self, Ranks};
use super::source::Source;
use super::trainer::{Record, Trainer};
use super::{Error, Result, trace};
use crate::bundle::{Bundle, Part};
use crate::cli;
use crate::data::axes::Axes;
use crate::data::dataset::Dataset;
use crate::data::pairs::{self, Pairs};
use crate::device::cuda::Cuda;
use crate::device::{Cpu, Device};
use crate::diffusion::schedule::SchedulerConfig;
use crate::fsio;
use crate::runtime::{self, ComputeStream, Ep, Runtime, SessionOptions};

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
        /// Where the steps are computed.
        device: String,
        /// Processes that share the run.
        ranks: usize,
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

impl Request {
    fn plan(&self) -> Plan {
        Plan {
            every: self.environment.save_every.max(1),
            steps: self.config.steps,
            keep: self.environment.keep.max(1),
        }
    }
}

/// Fine-tunes a LoRA, or goes on with an interrupted run; `ranks` are the processes that share it.
///
/// Everything that can be refused is refused before the output folder is touched. Only rank 0
/// writes there.
///
/// # Errors
/// See [`Error`]; a run that fails has saved what it had.
pub fn run(
    request: &Request,
    ranks: Box<dyn Ranks>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    request.config.check()?;
    let runtime = Runtime::load()?;
    let options = &request.environment.session;
    match cuda(&runtime, options)? {
        Some(cuda) => {
            let options = SessionOptions {
                stream: Some(ComputeStream(Arc::clone(cuda.stream()))),
                ..options.clone()
            };
            run_on(cuda, &runtime, &options, request, ranks, observe)
        }
        None => {
            let options = SessionOptions {
                ep: Ep::Cpu,
                ..options.clone()
            };
            run_on(Cpu, &runtime, &options, request, ranks, observe)
        }
    }
}

/// The GPU of a run on CUDA or TensorRT; none for one on the CPU.
fn cuda(runtime: &Runtime, options: &SessionOptions) -> Result<Option<Cuda>> {
    if runtime::resolve(runtime, options)? == Ep::Cpu {
        return Ok(None);
    }
    let number = usize::try_from(options.device).unwrap_or_default();
    match Cuda::open(number) {
        Ok(cuda) => Ok(Some(cuda)),
        Err(reason) if options.ep == Ep::Auto => {
            tracing::info!("training on the CPU: {reason}");
            Ok(None)
        }
        Err(reason) => Err(reason.into()),
    }
}

/// A run on a device.
fn run_on<D: Device>(
    device: D,
    runtime: &Runtime,
    options: &SessionOptions,
    request: &Request,
    ranks: Box<dyn Ranks>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let Request {
        config,
        environment,
        ..
    } = request;
    let bundle = Bundle::open(&request.model)?;
    bundle.path(Part::UnetGrad)?;
    let factors = FactorSet::new(bundle.lora()?, config.rank)?;
    let scheduler = SchedulerConfig::read(&bundle.dir().join(output::SCHEDULER))?;
    let dataset = Dataset::open(&request.data)?;
    let (pairs, pairs_hash) = find_pairs(request, &bundle, &dataset)?;
    let manifest = output::describe(config, &bundle, &dataset, pairs_hash, runtime)?;
    let model = UnetGrad::open(runtime, &bundle, options, &dataset, &factors)?;

    let source = Source::new(dataset, pairs, &scheduler, config)?;
    let micro_batch = micro_batch(request, ranks.as_ref())?;
    let first = ranks.rank() == 0;
    let open = || Output::open(&request.out, manifest, environment.resume);
    let mut out = first.then(open).transpose()?;
    let config = config.clone();
    let mut trainer = Trainer::new(device, model, factors, config, source, micro_batch, ranks)?;
    if environment.resume {
        let (snapshot, skipped) = checkpoint::newest(&request.out, &trainer.factors)?;
        skipped.iter().for_each(|s| observe(Event::Skipped(s)));
        if let Some(snapshot) = snapshot {
            trainer.restore(&snapshot)?;
        }
    }
    // Behind this every rank has read its checkpoint, and old ones may go.
    trainer.agree()?;
    if let Some(out) = &mut out {
        out.begin(trainer.done(), &request.config, trainer.source.pairs())?;
        checkpoint::prune(&request.out, trainer.done(), request.plan())?;
    }
    for reason in &trainer.source.pairs().left_out {
        observe(Event::LeftOut(reason));
    }
    let finish = train(&mut trainer, request, observe)?;
    if let (Finish::Done, Some(out)) = (finish, out) {
        let snapshot = trainer.snapshot()?;
        out.conclude(&snapshot, &trainer.factors, trainer.source.pairs(), &bundle)?;
    }
    Ok(finish)
}

/// Samples the network takes at once: by default a rank's share of the batch.
fn micro_batch(request: &Request, ranks: &dyn Ranks) -> Result<usize> {
    let (batch, ranks) = (request.config.batch, ranks.size());
    let environment = &request.environment;
    let size = environment.micro_batch.unwrap_or(batch.div_ceil(ranks));
    if batch.div_ceil(size) < ranks {
        return Err(Error::Option {
            option: "micro-batch",
            value: size.to_string(),
            problem: format!("a batch of {batch} in such parts is too few for {ranks} ranks"),
        });
    }
    if ranks > 1 && environment.trace.is_some() {
        return Err(Error::Option {
            option: "trace",
            value: "given".to_owned(),
            problem: format!("a trace needs the whole batch in one process, there are {ranks}"),
        });
    }
    Ok(size)
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

fn train<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let (config, environment) = (&request.config, &request.environment);
    observe(Event::Start {
        device: trainer.device.name(),
        ranks: trainer.ranks.size(),
        done: trainer.done(),
        steps: config.steps,
        parameters: trainer.factors.parameters(),
        pairs: trainer.source.pairs().list.len(),
    });
    let open = || Logs::open(&request.out, trainer.done());
    let mut logs = (trainer.ranks.rank() == 0).then(open).transpose()?;
    if let Some(dir) = &environment.trace {
        fsio::create_dir_all(dir)?;
        fsio::remove_partial(dir)?;
    }
    while trainer.done() < config.steps {
        if ranks::any(trainer.ranks.as_mut(), cli::interrupted())? {
            save(trainer, request, logs.as_ref(), observe)?;
            return Ok(Finish::Interrupted(trainer.done()));
        }
        let (start, busy) = (Instant::now(), trainer.model.busy());
        let mut record = environment.trace.as_ref().map(|_| Record::default());
        let report = match trainer.step(record.as_mut()) {
            Ok(report) => report,
            Err(error @ (Error::NonFinite { .. } | Error::NonFiniteBatch { .. })) => {
                save(trainer, request, logs.as_ref(), observe)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let runtime = trainer.model.busy() - busy;
        let line = Line::new(
            &report,
            start.elapsed().as_secs_f64(),
            runtime.as_secs_f64(),
        );
        if let Some(logs) = &mut logs {
            logs.append(&line)?;
        }
        if let (Some(dir), Some(record)) = (&environment.trace, &record) {
            trace::write(dir, config, &trainer.factors, &report, record)?;
        }
        observe(Event::Step(&line));
        if request.plan().saves(report.step) {
            save(trainer, request, logs.as_ref(), observe)?;
        }
    }
    Ok(Finish::Done)
}

/// Writes a checkpoint, on rank 0.
fn save<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    logs: Option<&Logs>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let snapshot = trainer.agree()?;
    let Some(logs) = logs else { return Ok(()) };
    // The log must not be shorter than the checkpoint says.
    logs.sync()?;
    let dir = checkpoint::save(&request.out, &trainer.factors, &snapshot, request.plan())?;
    observe(Event::Saved(&dir));
    Ok(())
}
