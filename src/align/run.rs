//! A whole run: from folders to a LoRA, with everything that makes it resumable.

use std::sync::Arc;

use super::model::GradientModel;
use super::output::{Ended, Output};
use super::prepare::{Loaded, can_draw, can_trace, cuda, empty_caption, micro_batch, open_model};
use super::publish::About;
use super::ranks::Ranks;
use super::request::{Event, Finish, Request};
use super::source::Source;
use super::train::train;
use super::trainer::{Settings, Trainer};
use super::validation::Inputs;
use super::{Result, checkpoint};
use crate::base::{Patience, Stop};
use crate::device::{Cpu, Device};
use crate::runtime::{ComputeStream, Ep, Runtime, SessionOptions};

/// Fine-tunes a LoRA, or goes on with an interrupted run; `ranks` are the processes that share
/// it. Once `stop` was asked, the run is saved after the step under way.
///
/// Everything that can be refused is refused before the output folder is touched. Only rank 0
/// writes there.
///
/// # Errors
/// See [`Error`](super::Error); a run that fails has saved what it had.
pub fn run(
    request: &Request,
    ranks: Box<dyn Ranks>,
    stop: &Stop,
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
            run_on(cuda, &runtime, &options, request, ranks, stop, observe)
        }
        None => {
            let options = SessionOptions {
                ep: Ep::Cpu,
                ..options.clone()
            };
            run_on(Cpu, &runtime, &options, request, ranks, stop, observe)
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
    stop: &Stop,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let Loaded {
        bundle,
        factors,
        scheduler,
        pool,
        axes,
        pairs,
        mut manifest,
        request,
    } = Loaded::read(request, runtime)?;
    let (config, environment) = (&request.config, &request.environment);
    let empty = empty_caption(config, &bundle, &pool, &mut manifest, runtime, options)?;
    can_trace(&request, &pool, ranks.as_ref())?;
    can_draw(&request, ranks.as_ref())?;
    let micro_batch = micro_batch(&request, ranks.as_ref())?;
    let mut model = open_model(
        &bundle,
        &pool,
        &factors,
        runtime,
        options,
        environment.making,
    )?;
    // Now, while a signal still ends it at once; what a rank never sees is not loaded.
    let alone = ranks.size() == 1;
    for size in config
        .micro_batches(micro_batch)
        .take(if alone { 2 } else { 1 })
    {
        model.load(size, &pool.sets()[0])?;
    }
    // Rank 0 alone draws, and writes.
    let first = ranks.rank() == 0;
    let inputs = Inputs {
        bundle: &bundle,
        scheduler: &scheduler,
        pool: &pool,
        axes: axes.as_ref(),
        runtime,
        session: options,
        seed: config.seed,
        steps: config.steps,
        stop,
    };
    let asked = request.validate.as_ref().filter(|_| first);
    let mut validator = asked.map(|v| v.open(&inputs)).transpose()?;
    if let Some(validator) = &validator {
        manifest.put("validate", validator.facts().clone());
        if validator.lost().captions > 0 {
            observe(Event::Truncated(validator.lost()));
        }
    }

    let studio = request.studio.as_ref();
    let artist = studio.map(|studio| studio.open(&inputs)).transpose()?;
    if let Some(artist) = &artist {
        manifest.put("drawing", artist.facts().clone());
    }

    let about = About::new(config, &bundle, &scheduler, &pool, axes.as_ref())?;
    let source = Source::new(pool, pairs, &scheduler, config, empty)?;
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
        artist,
    })?;
    resume(&mut trainer, &request, observe)?;
    if let Some(out) = &mut out {
        out.begin(trainer.done(), &request.config, trainer.source.pairs())?;
        let doubt = trainer.doubt();
        checkpoint::prune(&request.out, trainer.done(), request.plan(), doubt)?;
    }
    observe(Event::Dropped(&trainer.source.pool().left_out()));
    for reason in &trainer.source.pairs().left_out {
        observe(Event::LeftOut(reason));
    }
    for reason in &trainer.source.pairs().off_target {
        observe(Event::OffTarget(reason));
    }
    // From here on a step that is left is lost, with all since the last checkpoint.
    let _hold = stop.hold(Patience::Entire);
    let finish = train(
        &mut trainer,
        validator.as_deref_mut(),
        &request,
        stop,
        observe,
    )?;
    if let Some(out) = out {
        conclude(out, &trainer, &about, finish)?;
    }
    Ok(finish)
}

/// Writes what stands in the output folder at the end, if this is the end.
fn conclude<D: Device, M: GradientModel<D>>(
    out: Output,
    trainer: &Trainer<D, M>,
    about: &About,
    finish: Finish,
) -> Result<()> {
    let ended = match finish {
        Finish::Done => Ended::Steps,
        Finish::Reached(_) => Ended::TargetDiscrepancy,
        Finish::Interrupted(_) => return Ok(()),
    };
    let (snapshot, pairs) = (trainer.snapshot()?, trainer.source.pairs());
    out.conclude(&snapshot, &trainer.factors, pairs, about, ended)
}

/// Goes on with the newest checkpoint, if that is asked for and there is one. Behind this every rank
/// has read its checkpoint, and old ones may go.
fn resume<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    if request.environment.resume {
        let (snapshot, skipped) = checkpoint::newest(&request.out, &trainer.factors)?;
        skipped.iter().for_each(|s| observe(Event::Skipped(s)));
        if let Some(snapshot) = snapshot {
            trainer.restore(&snapshot)?;
        }
    }
    trainer.agree()?;
    Ok(())
}
