//! A worker: its own networks, and units from the queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use image::RgbImage;

use super::files::{encoded, file_stem};
use super::filter::Judgement;
use super::progress::{Times, timed};
use super::setup::Setup;
use super::studio::Studio;
use super::{Error, Picture, Result};
use crate::base::{Patience, Stop, fsio};
use crate::data::dataset::{LatentsRef, PictureRow};
use crate::data::writer::{DatasetWriter, TextFile, latents_name};
use crate::diffusion::painter::Order;
use crate::diffusion::pipeline::{Conditioning, Job};
use crate::diffusion::text::Embedding;
use crate::prompts::caption_id;
use crate::runtime::SessionOptions;

/// Threads that take turns at a worker's networks: while one of them is in the UNet, the other decodes,
/// judges, encodes and writes what it drew before.
const LANES: usize = 2;

/// What workers tell the thread that reports.
pub(super) enum Message {
    Stepped(usize),
    Unit {
        unit: usize,
        kept: usize,
        dropped: BTreeMap<String, usize>,
        times: Times,
    },
    Failed(Error),
}

/// What workers share.
pub(super) struct Shared<'a> {
    pub(super) setup: &'a Setup,
    pub(super) negative: &'a Embedding,
    pub(super) text: &'a TextFile,
    pub(super) writer: &'a DatasetWriter,
    /// Each worker's threads and provider.
    pub(super) session: SessionOptions,
    /// The queue of units.
    pub(super) todo: &'a [usize],
    pub(super) next: AtomicUsize,
    pub(super) stop: &'a Stop,
    /// Whether a worker failed: then the others end too.
    pub(super) failed: AtomicBool,
}

impl Shared<'_> {
    /// The next unit of the queue, until it is empty or the run is stopped.
    fn take(&self) -> Option<usize> {
        if self.stop.asked() || self.failed.load(Ordering::SeqCst) {
            return None;
        }
        let place = self.next.fetch_add(1, Ordering::SeqCst);
        self.todo.get(place).copied()
    }

    /// Ends the run, and says why.
    pub(super) fn fail(&self, error: Error, messages: &Sender<Message>) {
        self.failed.store(true, Ordering::SeqCst);
        let _ = messages.send(Message::Failed(error));
    }

    /// What a painter is told of some pictures.
    fn orders<'a>(&'a self, pictures: &[Picture<'a>]) -> Result<Vec<Order<'a>>> {
        let order = |picture: &Picture<'a>| {
            let prompt_id = caption_id(picture.caption);
            let embeddings = self.text.get(prompt_id)?;
            let caption = Conditioning {
                prompt_embeds: embeddings.prompt_embeds,
                pooled: embeddings.pooled,
            };
            Ok(Order {
                caption: picture.caption,
                job: Job {
                    caption,
                    prompt_id,
                    image_id: picture.image_id,
                },
            })
        };
        pictures.iter().map(order).collect()
    }
}

/// A worker.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    studio: Studio,
}

/// What was made of a unit so far.
#[derive(Default)]
struct Made {
    rows: Vec<PictureRow>,
    latents: Vec<f32>,
    times: Times,
}

impl<'a> Worker<'a> {
    /// Loads the networks.
    pub(super) fn open(shared: &'a Shared<'a>) -> Result<Self> {
        let setup = shared.setup;
        let studio = Studio::open(setup, &shared.session, &setup.settings)?;
        Ok(Self { shared, studio })
    }

    /// Makes units until there are no more, on several threads.
    pub(super) fn work(&self, messages: &Sender<Message>) {
        std::thread::scope(|scope| {
            for _ in 0..LANES {
                scope.spawn(|| {
                    if let Err(error) = self.lane(messages) {
                        self.shared.fail(error, messages);
                    }
                });
            }
        });
    }

    fn lane(&self, messages: &Sender<Message>) -> Result<()> {
        while let Some(unit) = self.shared.take() {
            // A unit is drawn as a whole: left half-way, its pictures would be drawn again.
            let _hold = self.shared.stop.hold(Patience::Brief);
            let Made { rows, times, .. } = self.unit(unit, messages)?;
            let mut dropped = BTreeMap::new();
            for reason in rows.iter().filter_map(|row| row.dropped.clone()) {
                *dropped.entry(reason).or_default() += 1;
            }
            let kept = rows.iter().filter(|row| row.dropped.is_none()).count();
            let _ = messages.send(Message::Unit {
                unit,
                kept,
                dropped,
                times,
            });
        }
        Ok(())
    }

    /// Makes a unit.
    fn unit(&self, unit: usize, messages: &Sender<Message>) -> Result<Made> {
        let Setup { plan, batch, .. } = self.shared.setup;
        let writer = self.shared.writer;
        let range = writer.layout().unit(unit);
        let pictures: Vec<Picture<'_>> = range.map(|index| plan.picture(index)).collect();
        let mut made = Made::default();
        for chunk in pictures.chunks(*batch) {
            self.batch(unit, chunk, &mut made, messages)?;
        }
        timed(&mut made.times.encode, || {
            writer.write_unit(unit, &made.rows, &made.latents)
        })?;
        Ok(made)
    }

    /// Makes some pictures of a unit at once.
    fn batch(
        &self,
        unit: usize,
        pictures: &[Picture<'_>],
        made: &mut Made,
        messages: &Sender<Message>,
    ) -> Result<()> {
        let (shared, times) = (self.shared, &mut made.times);
        let orders = shared.orders(pictures)?;
        let mut stepped = || {
            let _ = messages.send(Message::Stepped(pictures.len()));
        };
        let negative = shared.negative.into();
        let drawn = self
            .studio
            .draw(&orders, negative, &mut stepped, &mut times.unet)?;
        let (images, judgements) = self.studio.look(&drawn, &orders, pictures, times)?;
        for (place, (picture, judgement)) in pictures.iter().zip(judgements).enumerate() {
            let file = match &images {
                Some(images) => timed(&mut made.times.encode, || {
                    self.keep(picture, &images[place])
                })?,
                None => None,
            };
            let latents = LatentsRef {
                file: latents_name(unit),
                index: made.rows.len(),
            };
            let seed = shared.setup.settings.seed;
            made.rows.push(row(picture, seed, latents, file, judgement));
        }
        made.latents.extend(drawn);
        Ok(())
    }

    /// Writes a picture; gives its name and hash.
    fn keep(&self, picture: &Picture<'_>, image: &RgbImage) -> Result<Option<(String, String)>> {
        let format = self.shared.setup.format;
        let Some(extension) = format.extension() else {
            return Ok(None);
        };
        let bytes = encoded(image, format)?;
        let stem = file_stem(picture.index, picture.caption);
        let name = format!("images/{stem}.{extension}");
        self.shared.writer.write_image(&name, &bytes)?;
        Ok(Some((name, fsio::sha256_bytes(&bytes))))
    }
}

pub(super) fn row(
    picture: &Picture<'_>,
    seed: u64,
    latents: LatentsRef,
    file: Option<(String, String)>,
    judgement: Judgement,
) -> PictureRow {
    let (file_name, sha256) = file.unzip();
    PictureRow {
        file_name,
        prompt: picture.caption.to_owned(),
        neutral_prompt: picture.neutral.to_owned(),
        subject: picture.subject.to_owned(),
        kind: picture.kind,
        axes: picture.axes.clone(),
        seed,
        prompt_id: caption_id(picture.caption),
        image_id: picture.image_id,
        latents,
        sha256,
        verdict: judgement.verdict,
        dropped: judgement.dropped,
    }
}
