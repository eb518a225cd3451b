//! A worker: its own networks, and units from the queue.
//!
//! It is two threads. One lets the UNet draw; what it drew, the other decodes, judges, encodes and writes
//! (`finish`) while the next batch is drawn. Between them one batch may wait.

use std::sync::mpsc::{self, Sender, SyncSender};
use std::time::Duration;

use super::finish::{Drawn, Finisher, Step, passed};
use super::plan::Work;
use super::setup::Setup;
use super::shared::{Message, Shared};
use super::times::timed;
use super::view::{self, Viewer};
use super::{Picture, Result};
use crate::base::Patience;
use crate::diffusion::painter::Painter;

/// Batches that may wait to be decoded.
const WAITING: usize = 1;

/// A worker.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    painter: Painter,
    viewer: Viewer,
}

impl<'a> Worker<'a> {
    /// Loads the networks.
    pub(super) fn open(shared: &'a Shared<'a>) -> Result<Self> {
        let setup = shared.setup;
        let (painter, viewer) = view::open(setup, &shared.session, &setup.settings)?;
        Ok(Self {
            shared,
            painter,
            viewer,
        })
    }

    /// Makes units until there are no more.
    pub(super) fn work(self, messages: &Sender<Message>) {
        let Self {
            shared,
            mut painter,
            viewer,
        } = self;
        let (queue, steps) = mpsc::sync_channel(WAITING);
        let ends = |done: Result<()>| {
            if let Err(error) = done {
                shared.fail(error, messages);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| ends(Finisher::new(shared, viewer).work(steps, messages)));
            let mut drawing = Drawing {
                shared,
                painter: &mut painter,
                queue,
                messages,
            };
            ends(drawing.work());
        });
    }
}

/// The finisher has ended: it says why itself.
struct Over;

/// The side of a worker that draws.
struct Drawing<'a, 'b> {
    shared: &'a Shared<'a>,
    painter: &'b mut Painter,
    queue: SyncSender<Step<'a>>,
    messages: &'b Sender<Message>,
}

impl<'a> Drawing<'a, '_> {
    fn work(&mut self) -> Result<()> {
        while let Some(work) = self.shared.take() {
            if let Err(Over) = self.units(work)? {
                break;
            }
        }
        Ok(())
    }

    /// Draws units one after the other: a caption's until it has enough. Those that are left then are
    /// done with nothing in them.
    fn units(&mut self, work: &Work) -> Result<std::result::Result<(), Over>> {
        let (mut drawn, mut kept) = (0, 0);
        for unit in work.units.clone() {
            if self.shared.ends() {
                break;
            }
            if let Some(rows) = self.shared.writer.unit_rows(unit)? {
                drawn += rows.len();
                kept += passed(&rows);
                continue;
            }
            // A unit is drawn as a whole: left half-way, its pictures would be drawn again.
            let hold = self.shared.stop.hold(Patience::Brief);
            let expected = work.expected(drawn, kept);
            let missing = work.enough.map(|enough| enough.saturating_sub(kept));
            let Ok([own, passed]) = self.unit(unit, missing)? else {
                return Ok(Err(Over));
            };
            drawn += own;
            kept += passed;
            let more = work.expected(drawn, kept) + own - expected;
            if self.queue.send(Step::Unit { unit, more, hold }).is_err() {
                return Ok(Err(Over));
            }
        }
        Ok(Ok(()))
    }

    /// Draws a unit, until so many pictures of it have passed the filter; gives how many were drawn, and
    /// how many passed where that was asked for.
    fn unit(
        &mut self,
        unit: usize,
        missing: Option<usize>,
    ) -> Result<std::result::Result<[usize; 2], Over>> {
        let Setup { plan, batch, .. } = self.shared.setup;
        let places = self.shared.writer.layout().unit(unit);
        let mut rest: Vec<Picture<'a>> = plan.pictures(places).collect();
        let (mut drawn, mut passed) = (0, 0);
        loop {
            // Never more at once than are missing: the last that is drawn is the last that was needed,
            // whatever the batch.
            let missing = missing.map_or(usize::MAX, |missing| missing - passed);
            let next = rest.len().min(*batch).min(missing);
            if next == 0 {
                return Ok(Ok([drawn, passed]));
            }
            let later = rest.split_off(next);
            let pictures = std::mem::replace(&mut rest, later);
            let told = self.shared.told(&pictures)?;
            let orders = self.shared.orders(&pictures, &told)?;
            let mut unet = Duration::ZERO;
            let mut stepped = || {
                let _ = self.messages.send(Message::Stepped(pictures.len()));
            };
            let negative = self.shared.negative.into();
            let latents = timed(&mut unet, || {
                self.painter.draw(&orders, negative, &mut stepped)
            })?;
            drawn += pictures.len();
            // Only who waits for enough needs to know; others go on drawing meanwhile.
            let (reply, answer) = match missing {
                usize::MAX => (None, None),
                _ => {
                    let (reply, answer) = mpsc::channel();
                    (Some(reply), Some(answer))
                }
            };
            let batch = Drawn {
                unit,
                pictures,
                told,
                latents,
                unet,
                reply,
            };
            if self.queue.send(Step::Batch(batch)).is_err() {
                return Ok(Err(Over));
            }
            if let Some(answer) = answer {
                match answer.recv() {
                    Ok(own) => passed += own,
                    Err(_) => return Ok(Err(Over)),
                }
            }
        }
    }
}
