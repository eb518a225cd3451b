//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Result;
use super::checkpoint::{self, Plan, Skipped};
use super::config::Config;
use super::factors::FactorSet;
use super::log::Line;
use super::model::UnetGrad;
use super::output::{self, Ended, Output};
use super::prepare::{can_trace, cuda, find_axes, find_pairs, micro_batch, with_steps};
use super::ranks::Ranks;
use super::source::Source;
use super::train::train;
use super::trainer::{Settings, Trainer};
use crate::bundle::{Bundle, Part};
use crate::data::pool::Pool;
use crate::device::{Cpu, Device};
use crate::diffusion::schedule::SchedulerConfig;
use crate::runtime::{ComputeStream, Ep, Runtime, SessionOptions};
use crate::validate;
use crate::validate::Validator;

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
    pub(super) fn plan(&self) -> Plan {
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
/// See [`Error`](super::Error); a run that fails has saved what it had.
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
    let (pairs, pairs_hash) = find_pairs(request, axes_path.as_deref(), axes.as_ref(), &pool)?;
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
    let mut trainer = Trainer::new(Settings {
        device,
        model,
        factors,
        config,
        source,
        micro_batch,
        grad_memory: environment.grad_memory.unwrap_or(u64::MAX),
        ranks,
    })?;
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
