//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::{self, Plan, Skipped};
use super::config::Config;
use super::factors::FactorSet;
use super::log::{Line, Logs};
use super::model::{GradientModel, UnetGrad};
use super::output::{self, Ended, Output};
use super::source::Source;
use super::trainer::{Record, Trainer};
use super::validate::{self, Validator};
use super::{Error, Result, trace};
use crate::bundle::{Bundle, Part};
use crate::cli;
use crate::data::axes::Axes;
use crate::data::dataset::{Dataset, Kind};
use crate::data::pairs::{self, Pairs};
use crate::data::pool::Pool;
use crate::device::{Cpu, Device};
use crate::diffusion::schedule::SchedulerConfig;
use crate::fsio;
use crate::runtime::{Ep, Runtime, SessionOptions};

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

/// Fine-tunes a LoRA, or goes on with an interrupted run.
///
/// Everything that can be refused is refused before the output folder is touched.
///
/// # Errors
/// See [`Error`]; a run that fails has saved what it had.
pub fn run(request: &Request, observe: &mut dyn FnMut(Event<'_>)) -> Result<Finish> {
    let Request {
        config,
        environment,
        ..
    } = request;
    config.check()?;
    let options = on_cpu(&environment.session)?;
    let bundle = Bundle::open(&request.model)?;
    bundle.path(Part::UnetGrad)?;
    let factors = FactorSet::new(bundle.lora()?, config.rank)?;
    let scheduler = SchedulerConfig::read(&bundle.dir().join(output::SCHEDULER))?;
    let pool = Pool::open(&request.data)?;
    let first = &pool.sets()[0];
    let (axes_path, axes) = find_axes(request, &bundle, first)?;
    let (pairs, pairs_hash) = find_pairs(request, axes_path.as_deref(), axes.as_ref(), &pool)?;
    let request = &with_steps(request, &pairs)?;
    let config = &request.config;
    let runtime = Runtime::load()?;
    let mut manifest = output::describe(config, &bundle, &pool, pairs_hash, &runtime)?;
    let model = UnetGrad::open(&runtime, &bundle, &options, first)?;
    for other in &pool.sets()[1..] {
        model.check(&bundle, other)?;
    }
    if let Some(dir) = environment.trace.as_ref().filter(|_| sizes(&pool) > 1) {
        return Err(Error::Option {
            option: "trace",
            value: dir.display().to_string(),
            problem: "a step's file holds pictures of one size, the data sets have several".into(),
        });
    }
    let inputs = validate::Inputs {
        bundle: &bundle,
        scheduler: &scheduler,
        pool: &pool,
        axes: axes.as_ref(),
        runtime: &runtime,
        session: &options,
        seed: config.seed,
        steps: config.steps,
    };
    let open = |request| Validator::open(request, &inputs);
    let mut validator = request.validate.as_ref().map(open).transpose()?;
    if let Some(validator) = &validator {
        manifest.put("validate", validator.facts().clone());
    }

    let source = Source::new(pool, pairs, &scheduler, config)?;
    let mut out = Output::open(&request.out, manifest, environment.resume)?;
    let micro_batch = environment.micro_batch.unwrap_or(config.batch);
    let mut trainer = Trainer::new(Cpu, model, factors, config.clone(), source, micro_batch)?;
    trainer.grad_memory = environment.grad_memory.unwrap_or(u64::MAX);
    if environment.resume {
        let (snapshot, skipped) = checkpoint::newest(&request.out, &trainer.factors)?;
        skipped.iter().for_each(|s| observe(Event::Skipped(s)));
        if let Some(snapshot) = snapshot {
            trainer.restore(&snapshot)?;
        }
    }
    out.begin(trainer.done(), config, trainer.source.pairs())?;
    checkpoint::prune(&request.out, trainer.done(), request.plan())?;
    for reason in &trainer.source.pairs().left_out {
        observe(Event::LeftOut(reason));
    }
    let finish = train(&mut trainer, validator.as_mut(), request, observe)?;
    let ended = match finish {
        Finish::Done => Ended::Steps,
        Finish::Reached(_) => Ended::TargetDiscrepancy,
        Finish::Interrupted(_) => return Ok(finish),
    };
    let (snapshot, pairs) = (trainer.snapshot()?, trainer.source.pairs());
    out.conclude(&snapshot, &trainer.factors, pairs, &bundle, ended)?;
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
    axes_path: Option<&Path>,
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
            let hash = match axes_path {
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
        done: trainer.done(),
        steps: config.steps,
        parameters: trainer.factors.parameters(),
        pairs: trainer.source.pairs().list.len(),
    });
    let schedule = validator.as_ref().map(|validator| validator.schedule());
    let mut logs = Logs::open(&request.out, trainer.done(), schedule)?;
    if let Some(dir) = &environment.trace {
        fsio::create_dir_all(dir)?;
        fsio::remove_partial(dir)?;
    }
    loop {
        if let Some(validator) = validator.as_deref_mut()
            && validation(trainer, validator, request, &mut logs, observe)?
        {
            return Ok(Finish::Reached(trainer.done()));
        }
        // A validation that is due is missing only where the user interrupted it.
        let whole = schedule.is_none() || logs.validation(config.steps).is_some();
        if trainer.done() >= config.steps && whole {
            return Ok(Finish::Done);
        }
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
        let line = Line::new(&report, start.elapsed().as_secs_f64());
        logs.append(&line)?;
        if let (Some(dir), Some(record)) = (&environment.trace, &record) {
            trace::write(dir, config, &trainer.factors, &report, record)?;
        }
        observe(Event::Step(&line));
        if request.plan().saves(report.step) {
            save(trainer, request, &logs, observe)?;
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
                save(trainer, request, logs, observe)?;
                return Err(error);
            }
        };
        observe(Event::Validated(&record));
        logs.append_validation(record)?;
    }
    let met = logs.validation(step).and_then(|r| schedule.met(r));
    if met.is_some() && !request.plan().saves(step) {
        save(trainer, request, logs, observe)?;
    }
    Ok(met.is_some())
}

fn save<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    request: &Request,
    logs: &Logs,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    // The log must not be shorter than the checkpoint says.
    logs.sync()?;
    let snapshot = trainer.snapshot()?;
    let dir = checkpoint::save(&request.out, &trainer.factors, &snapshot, request.plan())?;
    observe(Event::Saved(&dir));
    Ok(())
}
