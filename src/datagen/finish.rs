//! The side of a worker that finishes what was drawn: decodes, judges, encodes and writes.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use image::RgbImage;

use super::files::{encoded, file_stem};
use super::filter::Judgement;
use super::shared::{Message, Shared, Told};
use super::times::{Times, timed};
use super::view::Viewer;
use super::{Picture, Result};
use crate::base::fsio;
use crate::base::stop::Hold;
use crate::data::dataset::{LatentsRef, PictureRow};
use crate::data::writer::latents_name;
use crate::prompts::caption_id;

/// What is to be finished, in order.
pub(super) enum Step<'a> {
    /// Some pictures of a unit.
    Batch(Drawn<'a>),
    /// A unit's pictures were all given; none at all for a unit that nothing is needed of.
    Unit {
        unit: usize,
        /// Pictures that are drawn in addition, in place of those that were dropped.
        more: usize,
        /// Until the unit is written it is worth some patience.
        hold: Hold,
    },
}

/// A drawn batch.
pub(super) struct Drawn<'a> {
    pub(super) unit: usize,
    pub(super) pictures: Vec<Picture<'a>>,
    pub(super) told: Told<'a>,
    pub(super) latents: Vec<f32>,
    /// The time it took to draw.
    pub(super) unet: Duration,
    /// Who waits to know how many passed the filter.
    pub(super) reply: Option<Sender<usize>>,
}

/// What was made of a unit so far.
#[derive(Default)]
struct Made {
    rows: Vec<PictureRow>,
    latents: Vec<f32>,
    times: Times,
}

/// Finishes what is drawn.
pub(super) struct Finisher<'a> {
    shared: &'a Shared<'a>,
    viewer: Viewer,
    made: Made,
}

impl<'a> Finisher<'a> {
    /// With these networks.
    pub(super) fn new(shared: &'a Shared<'a>, viewer: Viewer) -> Self {
        Self {
            shared,
            viewer,
            made: Made::default(),
        }
    }

    /// Finishes everything that comes. A unit whose end doesn't come is left.
    pub(super) fn work(
        mut self,
        steps: Receiver<Step<'a>>,
        messages: &Sender<Message>,
    ) -> Result<()> {
        for step in steps {
            match step {
                Step::Batch(batch) => self.batch(batch)?,
                Step::Unit { unit, more, hold } => {
                    let _ = messages.send(self.unit(unit, more)?);
                    drop(hold);
                }
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: Drawn<'a>) -> Result<()> {
        let Drawn {
            unit,
            pictures,
            told,
            latents,
            unet,
            reply,
        } = batch;
        self.made.times.unet += unet;
        let orders = self.shared.orders(&pictures, &told)?;
        let (images, judgements) =
            self.viewer
                .look(&latents, &orders, &pictures, &mut self.made.times)?;
        let passed = judgements.iter().filter(|j| j.dropped.is_none()).count();
        if let Some(reply) = reply {
            let _ = reply.send(passed);
        }
        let setup = self.shared.setup;
        drop(orders);
        let judged = pictures.iter().zip(judgements).zip(told.drawn);
        for (place, ((picture, judgement), identity)) in judged.enumerate() {
            let deleted = judgement.dropped.is_some() && setup.deletes;
            let mut time = Duration::ZERO;
            let file = match &images {
                Some(images) if !deleted => {
                    timed(&mut time, || self.keep(picture, &images[place]))?
                }
                _ => None,
            };
            self.made.times.encode += time;
            let latents = LatentsRef {
                file: latents_name(unit),
                index: self.made.rows.len(),
            };
            let mut row = row(picture, setup.settings.seed, latents, file, judgement);
            if let Some(identity) = identity {
                (row.identity, row.drawn_prompt) = (identity.values, identity.caption);
            }
            self.made.rows.push(row);
        }
        self.made.latents.extend(latents);
        Ok(())
    }

    /// Writes a unit, and gives what is said of it.
    fn unit(&mut self, unit: usize, more: usize) -> Result<Message> {
        let Made {
            rows,
            latents,
            mut times,
        } = std::mem::take(&mut self.made);
        let writer = self.shared.writer;
        timed(&mut times.encode, || {
            writer.write_unit(unit, &rows, &latents)
        })?;
        if rows.is_empty() {
            return Ok(Message::Unneeded);
        }
        let mut dropped = BTreeMap::new();
        for reason in rows.iter().filter_map(|row| row.dropped.clone()) {
            *dropped.entry(reason).or_default() += 1;
        }
        Ok(Message::Unit {
            unit,
            kept: passed(&rows),
            dropped,
            times,
            more,
        })
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

/// How many pictures passed the filter.
pub(super) fn passed(rows: &[PictureRow]) -> usize {
    rows.iter().filter(|row| row.dropped.is_none()).count()
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
        identity: BTreeMap::new(),
        drawn_prompt: None,
        latents,
        sha256,
        verdict: judgement.verdict,
        dropped: judgement.dropped,
    }
}
