//! A run: checks, embeddings, then units until all are there or the user stops it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;

use super::event::{Event, Finish};
use super::finish::passed;
use super::plan::Work;
use super::projected::Projected;
use super::setup::{self, Setup};
use super::shared::{Message, Shared};
use super::worker::Worker;
use super::{Error, Request, Result};
use crate::base::Stop;
use crate::data::dataset::AXES;
use crate::data::writer;
use crate::data::writer::DatasetWriter;
use crate::diffusion::share;
use crate::diffusion::text::{Embedding, TextEncoders};
use crate::prompts::caption_id;
use crate::runtime::SessionOptions;
use crate::store::Store;

/// Generates a data set, or goes on with one. `report` is called in order, from this thread; once
/// `stop` was asked, the run ends when the units under way are done.
///
/// # Errors
/// See [`Error`]. Whatever was finished before stays; the same request goes on from there.
pub fn run(request: &Request, stop: &Stop, report: &mut dyn FnMut(Event<'_>)) -> Result<Finish> {
    let setup = setup::prepare(request)?;
    if setup.repeated > 0 {
        report(Event::Repeated(setup.repeated));
    }
    if setup.lost.captions > 0 {
        report(Event::Truncated(&setup.lost));
    }
    let store = Store::open(&request.out)?;
    refuse_other_folders(&store)?;
    if let Some(pictures) = setup.shared.filter(|&n| n > 0) {
        let of = setup.plan.len();
        report(Event::Shared { pictures, of });
    }
    let writer = DatasetWriter::open(store.clone(), setup.manifest.clone())?;
    let mut damaged = writer.damaged().to_vec();
    damaged.extend(keep_axes(&setup, &writer)?);
    if !damaged.is_empty() {
        report(Event::Damaged(&damaged));
    }
    if let Some(outcome) = writer.outcome() {
        let outcome = outcome.clone();
        writer.finish()?;
        return Ok(Finish::Complete(outcome));
    }
    let negative = match encode(&setup, &writer, stop, report) {
        Err(Error::Interrupted) => {
            let todo = Todo::of(&setup, &writer)?;
            return Ok(Finish::Interrupted(todo.units));
        }
        encoded => encoded?,
    };
    let finish = draw(request, &setup, writer, &negative, stop, report)?;
    if matches!(finish, Finish::Complete(_)) && setup.plan.ragged() {
        let rows = writer::rows(&store)?;
        let short = setup.plan.short(&rows);
        if !short.is_empty() {
            report(Event::Short(&short));
        }
    }
    Ok(finish)
}

/// Writes the axes file, unless it is there; gives its name if a finished data set lacked it or a part
/// of it. One that says something else is somebody's own.
fn keep_axes(setup: &Setup, writer: &DatasetWriter) -> Result<Option<String>> {
    let Some((_, bytes)) = &setup.axes else {
        return Ok(None);
    };
    let store = writer.store();
    let found = store.peek(AXES)?;
    let whole = found.as_ref().is_some_and(|found| found == bytes);
    let finished = writer.outcome().is_some() || !writer.damaged().is_empty();
    let own = found
        .as_ref()
        .is_some_and(|found| !bytes.starts_with(found));
    if whole || finished && own {
        return Ok(None);
    }
    store.write(AXES, bytes)?;
    Ok(finished.then(|| AXES.to_owned()))
}

/// Only an empty place or a data set may become this data set. (A killed first run leaves hidden
/// files.)
pub(super) fn refuse_other_folders(out: &Store) -> Result<()> {
    let named = out.size(crate::data::manifest::FILE)?.is_some();
    match named || out.entries()?.iter().all(|name| name.starts_with('.')) {
        true => Ok(()),
        false => Err(Error::InTheWay { path: out.name() }),
    }
}

/// Writes the captions' embeddings, unless they are there, and gives the negative one.
fn encode(
    setup: &Setup,
    writer: &DatasetWriter,
    stop: &Stop,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Embedding> {
    let negative = setup.negative.as_deref();
    let has_text = writer.has_text()?;
    if has_text && negative.is_none() {
        return Ok(setup.settings.text.zeros());
    }
    let options = SessionOptions {
        threads: setup.threads,
        ..setup.session.clone()
    };
    let mut encoders = TextEncoders::open(&setup.bundle, &setup.runtime, &options)?;
    let captions = setup.plan.captions();
    if !has_text {
        let ids: Vec<u32> = captions.iter().map(|c| caption_id(c)).collect();
        writer.write_text::<Error>(&ids, |index| {
            let embedding = encoders.encode(&captions[index])?;
            let (done, of) = (index + 1, captions.len());
            report(Event::Encoded { done, of });
            match stop.asked() {
                false => Ok((embedding.prompt_embeds, embedding.pooled)),
                true => Err(Error::Interrupted),
            }
        })?;
    }
    match negative {
        Some(caption) => Ok(encoders.encode(caption)?),
        None => Ok(setup.settings.text.zeros()),
    }
}

/// What this run is to do.
struct Todo {
    work: Vec<Work>,
    /// Units that aren't done.
    units: usize,
    /// Pictures that are drawn if all pass the filter.
    pictures: usize,
}

impl Todo {
    fn of(setup: &Setup, writer: &DatasetWriter) -> Result<Self> {
        let mut todo = Self {
            work: Vec::new(),
            units: 0,
            pictures: 0,
        };
        let own = setup.plan.work().into_iter();
        let own: Vec<Work> = own.filter(|work| setup.shard.has(work.key)).collect();
        let units = own.iter().flat_map(|work| work.units.clone());
        let lacking: HashSet<usize> = writer.units_left(units)?.into_iter().collect();
        for work in own {
            let (left, done): (Vec<usize>, Vec<usize>) =
                work.units.clone().partition(|unit| lacking.contains(unit));
            if left.is_empty() {
                continue;
            }
            let (mut drawn, mut kept) = (0, 0);
            for unit in done {
                let rows = writer.unit_rows(unit)?.unwrap_or_default();
                drawn += rows.len();
                kept += passed(&rows);
            }
            todo.units += left.len();
            todo.pictures += work.expected(drawn, kept);
            todo.work.push(work);
        }
        Ok(todo)
    }
}

/// Lets workers make the units, and joins the data set when all are there.
fn draw(
    request: &Request,
    setup: &Setup,
    writer: DatasetWriter,
    negative: &Embedding,
    stop: &Stop,
    report: &mut dyn FnMut(Event<'_>),
) -> Result<Finish> {
    let todo = Todo::of(setup, &writer)?;
    let (workers, threads) = share::workers(
        &setup.bundle,
        setup.session.ep,
        setup.threads,
        todo.work.len(),
    );
    report(Event::Start {
        ep: setup.session.ep,
        pictures: setup.plan.len(),
        todo: todo.pictures,
        captions: setup.plan.captions().len(),
        steps: setup.settings.sampler.steps(),
        batch: setup.batch,
        workers,
    });
    let text = writer.text()?;
    let learn = |(identities, parts)| Projected::learn(request, identities, parts, &text);
    let projects = setup.identities.as_ref().zip(setup.parts.as_ref());
    let shared = Shared {
        setup,
        negative,
        projected: projects.map(learn).transpose()?,
        text: &text,
        writer: &writer,
        session: SessionOptions {
            threads,
            ..setup.session.clone()
        },
        todo: &todo.work,
        next: AtomicUsize::new(0),
        stop,
        failed: AtomicBool::new(false),
    };
    let written = work(&shared, workers, report)?;
    match todo.units - written {
        0 => Ok(match writer.finish()? {
            writer::Finish::Complete(outcome) => Finish::Complete(outcome),
            writer::Finish::UnitsLeft(units) => Finish::UnitsLeft(units),
            writer::Finish::LeftToOthers => Finish::LeftToOthers,
        }),
        left => Ok(Finish::Interrupted(left)),
    }
}

/// Runs the workers and reports for them; returns how many units they wrote.
fn work(shared: &Shared<'_>, workers: usize, report: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
    let (sender, messages) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(move || match Worker::open(shared) {
                Ok(worker) => worker.work(&sender),
                Err(error) => shared.fail(error, &sender),
            });
        }
        drop(sender);
        let (mut written, mut failed) = (0, None);
        for message in messages {
            let event = match message {
                Message::Stepped(pictures) => Event::Stepped(pictures),
                Message::Unit {
                    unit,
                    kept,
                    dropped,
                    times,
                    more,
                } => {
                    written += 1;
                    Event::Unit {
                        unit,
                        kept,
                        dropped,
                        times,
                        more,
                    }
                }
                Message::Unneeded => {
                    written += 1;
                    continue;
                }
                Message::Failed(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            report(event);
        }
        failed.map_or(Ok(written), Err)
    })
}
