//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{self, Plan, Skipped};
use super::config::Config;
use super::factors::FactorSet;
use super::log::{Line, Logs};
use super::model::{GradientModel, UnetGrad};
use super::output::{self, Ended, Output};
use super::ranks::{self, Ranks};
use super::source::Source;
use super::trainer::{Record, Snapshot, Trainer};
use super::validate::{self, Validator};
use super::{Error, Result, trace};
use crate::bundle::{Bundle, Part};
use crate::cli;
use crate::data::axes::Axes;
use crate::data::dataset::{Dataset, Kind};
use crate::data::pairs::{self, Pairs};
use crate::data::pool::Pool;
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
    /// Bytes of gradients kept until the errors of the whole batch are known; all by default.
    pub grad_memory: Option<u64>,
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
    /// The data sets, at least one.
    pub data: Vec<PathBuf>,
    /// The output folder.
    pub out: PathBuf,
    /// The pairs.
    pub pairs: PairSource,
    /// Pictures drawn and scored while training goes on.
    pub validate: Option<validate::Request>,
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
    /// Pictures are about to be drawn for validation, so many after so many updates.
    Validating {
        /// Updates done.
        step: u32,
        /// Pictures to draw.
        pictures: usize,
    },
    /// What they showed.
    Validated(&'a validate::Record),
    /// A checkpoint is complete.
    Saved(&'a Path),
}

/// How a run ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All steps are done and the LoRA is written.
    Done,
    /// A validation after so many updates met the target, and the LoRA is written.
    Reached(u32),
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
    let pool = Pool::open(&request.data)?;
    let set = &pool.sets()[0];
    let (axes_path, axes) = find_axes(request, &bundle, set)?;
    let (pairs, pairs_hash) = find_pairs(request, axes_path, axes.as_ref(), &pool)?;
    let request = &with_steps(request, &pairs)?;
    let config = &request.config;
    let mut manifest = output::describe(config, &bundle, &pool, pairs_hash, runtime)?;
    let model = UnetGrad::open(runtime, &bundle, options, set, &factors)?;
    for other in &pool.sets()[1..] {
        model.check(&bundle, other)?;
    }
    can_trace(request, &pool, ranks.as_ref())?;
    let micro_batch = micro_batch(request, ranks.as_ref())?;
    // Rank 0 alone draws, and writes.
    let first = ranks.rank() == 0;
    let inputs = validate::Inputs {
        bundle: &bundle,
        scheduler: &scheduler,
        pool: &pool,
        axes: axes.as_ref(),
        runtime,
        session: options,
        seed: config.seed,
        steps: config.steps,
    };
    let open = |request| Validator::open(request, &inputs);
    let asked = request.validate.as_ref().filter(|_| first);
    let mut validator = asked.map(open).transpose()?;
    if let Some(validator) = &validator {
        manifest.put("validate", validator.facts().clone());
    }

    let source = Source::new(pool, pairs, &scheduler, config)?;
    let open = || Output::open(&request.out, manifest, environment.resume);
    let mut out = first.then(open).transpose()?;
    let config = config.clone();
    let mut trainer = Trainer::new(device, model, factors, config, source, micro_batch, ranks)?;
    trainer.grad_memory = environment.grad_memory.unwrap_or(u64::MAX);
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
    let finish = train(&mut trainer, validator.as_mut(), request, observe)?;
    let ended = match finish {
        Finish::Done => Ended::Steps,
        Finish::Reached(_) => Ended::TargetDiscrepancy,
        Finish::Interrupted(_) => return Ok(finish),
    };
    if let Some(out) = out {
        let (snapshot, pairs) = (trainer.snapshot()?, trainer.source.pairs());
        out.conclude(&snapshot, &trainer.factors, pairs, &bundle, ended)?;
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
    Ok(size)
}

/// Refuses a trace that could not hold a whole step.
fn can_trace(request: &Request, pool: &Pool, ranks: &dyn Ranks) -> Result<()> {
    let problem = if sizes(pool) > 1 {
        "a step's file holds pictures of one size, the data sets have several"
    } else if ranks.size() > 1 {
        "a step's file holds the whole batch, of which each rank has a part"
    } else {
        return Ok(());
    };
    match &request.environment.trace {
        None => Ok(()),
        Some(dir) => Err(Error::Option {
            option: "trace",
            value: dir.display().to_string(),
            problem: problem.to_owned(),
        }),
    }
}

/// The axes file of a run, if there is one: the user's, the data set's or the bundle's.
fn find_axes(
    request: &Request,
    bundle: &Bundle,
    dataset: &Dataset,
) -> Result<(Option<PathBuf>, Option<Axes>)> {
    let asked = match &request.pairs {
        PairSource::Drawn(axes) => axes.clone(),
        PairSource::File(_) => None,
    };
    let own = Some(dataset.dir().join("axes.toml")).filter(|path| path.is_file());
    let path = asked.or(own).or_else(|| bundle.file("axes.toml"));
    let axes = path.as_deref().map(Axes::load).transpose()?;
    Ok((path, axes))
}

/// The pairs, and a hash of what they were made from.
fn find_pairs(
    request: &Request,
    axes_path: Option<PathBuf>,
    axes: Option<&Axes>,
    dataset: &Pool,
) -> Result<(Pairs, String)> {
    match &request.pairs {
        PairSource::File(path) => {
            let hash = fsio::sha256(path)?;
            let pairs = pairs::read(path, dataset, request.config.sets())?;
            Ok((pairs, format!("file:{hash}")))
        }
        PairSource::Drawn(_) => {
            let hash = match &axes_path {
                Some(path) => format!("drawn:{}", fsio::sha256(path)?),
                None => "drawn".to_owned(),
            };
            let config = &request.config;
            let count = match config.epochs {
                None => config.steps as usize * config.pairs_per_step(),
                Some(_) => winners(dataset),
            };
            let (seed, sets) = (config.pair_seed, config.sets());
            Ok((pairs::draw(dataset, axes, seed, count, sets)?, hash))
        }
    }
}

fn train<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    mut validator: Option<&mut Validator>,
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
    let schedule = validator.as_ref().map(|validator| validator.schedule());
    let open = || Logs::open(&request.out, trainer.done(), schedule);
    let mut logs = (trainer.ranks.rank() == 0).then(open).transpose()?;
    if let Some(dir) = &environment.trace {
        fsio::create_dir_all(dir)?;
        fsio::remove_partial(dir)?;
    }
    loop {
        let met = match (validator.as_deref_mut(), &mut logs) {
            (Some(validator), Some(logs)) => {
                validation(trainer, validator, request, logs, observe)?
            }
            _ => false,
        };
        // A validation that is due is missing only where the user interrupted it.
        let whole = |logs: &Logs| schedule.is_none() || logs.validation(config.steps).is_some();
        let done = trainer.done() >= config.steps && logs.as_ref().is_some_and(whole);
        let said = [met, done, cli::interrupted()];
        let [met, done, interrupted] = ranks::any(trainer.ranks.as_mut(), said)?;
        if met {
            return Ok(Finish::Reached(trainer.done()));
        }
        if done {
            return Ok(Finish::Done);
        }
        if interrupted {
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
}

/// How many sizes of pictures there are.
fn sizes(pool: &Pool) -> usize {
    let mut sizes: Vec<_> = pool.sets().iter().map(Dataset::size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.len()
}

/// Pictures that may win: an epoch of drawn pairs is long enough to visit each once.
fn winners(pool: &Pool) -> usize {
    let specific = pool.kept().filter(|(_, row)| row.kind == Kind::Specific);
    specific.count()
}

/// The request with the steps that its epochs take. The last one is filled up with the first pairs of
/// another pass.
fn with_steps(request: &Request, pairs: &Pairs) -> Result<Request> {
    let mut request = request.clone();
    if let Some(epochs) = request.config.epochs {
        let visits = epochs as usize * pairs.list.len();
        let steps = visits.div_ceil(request.config.pairs_per_step());
        request.config.steps = u32::try_from(steps).unwrap_or(u32::MAX);
        request.config.check()?;
    }
    Ok(request)
}

/// Validates, if that is due and not done, and says whether the run is to end here; then it is
/// saved.
fn validation<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    validator: &mut Validator,
    request: &Request,
    logs: &mut Logs,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<bool> {
    let (step, schedule) = (trainer.done(), validator.schedule());
    if !schedule.due(step) {
        return Ok(false);
    }
    if logs.validation(step).is_none() {
        let pictures = validator.pictures();
        observe(Event::Validating { step, pictures });
        let lora = trainer.factors.fitted(&trainer.result()?)?;
        let record = match validator.run(step, lora) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(false),
            Err(error) => {
                write(trainer, &trainer.snapshot()?, request, logs, observe)?;
                return Err(error);
            }
        };
        observe(Event::Validated(&record));
        logs.append_validation(record)?;
    }
    let met = logs.validation(step).and_then(|r| schedule.met(r));
    if met.is_some() && !request.plan().saves(step) {
        write(trainer, &trainer.snapshot()?, request, logs, observe)?;
    }
    Ok(met.is_some())
}

/// Writes a checkpoint where rank 0 is, once all ranks have agreed on it.
fn save<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    logs: Option<&Logs>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let snapshot = trainer.agree()?;
    match logs {
        Some(logs) => write(trainer, &snapshot, request, logs, observe),
        None => Ok(()),
    }
}

/// Writes a checkpoint.
fn write<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    snapshot: &Snapshot,
    request: &Request,
    logs: &Logs,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    // The log must not be shorter than the checkpoint says.
    logs.sync()?;
    let dir = checkpoint::save(&request.out, &trainer.factors, snapshot, request.plan())?;
    observe(Event::Saved(&dir));
    Ok(())
}
