//! The loop of a run: steps, validations, checkpoints, and what ends it.

use std::time::Instant;

use super::checkpoint;
use super::log::{Line, Logs};
use super::model::GradientModel;
use super::ranks;
use super::request::{Event, Finish, Request};
use super::trainer::{Record, Snapshot, Trainer};
use super::validation::Validator;
use super::{Error, Result, trace};
use crate::base::{Stop, fsio};
use crate::device::Device;

/// Trains until the steps are done, a target is met or the user interrupts.
pub(super) fn train<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    mut validator: Option<&mut (dyn Validator + 'static)>,
    request: &Request,
    stop: &Stop,
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
    let length = config
        .online
        .map(|online| online.round(config.steps, 0).length);
    let open = || Logs::open(&request.out, trainer.done(), schedule, length);
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
        let said = [met, done, stop.asked()];
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
        if round(trainer, &mut logs, observe)? {
            step(trainer, request, &mut logs, observe)?;
        }
    }
}

/// Draws the pictures of the round that the next step is in, unless they are there; says whether there is
/// something to train on, and not the user who stopped it.
fn round<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    logs: &mut Option<Logs>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<bool> {
    let Some((round, pictures)) = trainer.missing_round() else {
        return Ok(true);
    };
    observe(Event::Drawing { round, pictures });
    let Some(record) = trainer.draw_round(round)? else {
        return Ok(false);
    };
    observe(Event::Drawn(round, &record));
    if let Some(logs) = logs {
        logs.append_round(record)?;
    }
    Ok(true)
}

/// Does a step and writes what it says of itself.
fn step<D: Device, M: GradientModel<D>>(
    trainer: &mut Trainer<D, M>,
    request: &Request,
    logs: &mut Option<Logs>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let trace = &request.environment.trace;
    let (start, busy) = (Instant::now(), trainer.model.busy());
    let mut record = trace.as_ref().map(|_| Record::default());
    let report = match trainer.step(record.as_mut()) {
        Ok(report) => report,
        Err(error) => return Err(failed(error, trainer, request, logs.as_ref(), observe)?),
    };
    let runtime = trainer.model.busy() - busy;
    let line = Line::new(
        &report,
        start.elapsed().as_secs_f64(),
        runtime.as_secs_f64(),
    );
    if let Some(logs) = logs {
        logs.append(&line)?;
    }
    if let (Some(dir), Some(record)) = (trace, &record) {
        trace::write(dir, &request.config, &trainer.factors, &report, record)?;
    }
    observe(Event::Step(&line));
    if request.plan().saves(report.step) {
        save(trainer, request, logs.as_ref(), observe)?;
    }
    Ok(())
}

/// What to do about a step that failed: a run with one bad sample is saved as it was before the step, one
/// that ran away is left with its last good state. Gives the error to end with.
fn failed<D: Device, M: GradientModel<D>>(
    error: Error,
    trainer: &mut Trainer<D, M>,
    request: &Request,
    logs: Option<&Logs>,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Error> {
    match error {
        Error::NonFinite { .. } | Error::NonFiniteBatch { .. } => {
            save(trainer, request, logs, observe)?;
        }
        Error::RanAway {
            step, doubt, since, ..
        } if logs.is_some() => {
            let kept = checkpoint::keep_before(&request.out, since)?;
            return Ok(Error::RanAway {
                step,
                doubt,
                since,
                kept,
            });
        }
        // The folder is rank 0's.
        Error::RanAway { step, doubt, .. } => {
            let rank = trainer.ranks.rank();
            let problem = format!("step {step}: the run has run away: {doubt}");
            return Ok(Error::Ranks { rank, problem });
        }
        _ => {}
    }
    Ok(error)
}

/// Validates, if that is due and not done, and says whether the run is to end here; then it is
/// saved.
fn validation<D: Device, M: GradientModel<D>>(
    trainer: &Trainer<D, M>,
    validator: &mut dyn Validator,
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
