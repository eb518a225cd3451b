//! A worker: its own UNet and VAE, and units from the queue.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::filter::{Filter, Judgement};
use super::identity::Drawn;
use super::projected::Projected;
use super::setup::Setup;
use super::{Error, Format, Picture, Result};
use crate::base::{Patience, Stop, fsio};
use crate::data::dataset::{LatentsRef, PictureRow};
use crate::data::writer::{DatasetWriter, TextFile, latents_name};
use crate::diffusion::painter::{Order, Painter};
use crate::diffusion::pipeline::{Conditioning, Edit, Job};
use crate::diffusion::text::Embedding;
use crate::prompts::caption_id;
use crate::runtime::SessionOptions;

const JPEG_QUALITY: u8 = 95;
/// Longest part of a caption in a file's name.
const SLUG: usize = 60;

/// What workers tell the thread that reports.
pub(super) enum Message {
    Stepped(usize),
    Unit {
        unit: usize,
        kept: usize,
        dropped: BTreeMap<String, usize>,
    },
    Failed(Error),
}

/// What beside their captions some pictures are drawn by.
struct Told<'a> {
    drawn: Vec<Option<Drawn>>,
    edits: Vec<Vec<Edit<'a>>>,
    projections: Vec<Option<Embedding>>,
}

/// What workers share.
pub(super) struct Shared<'a> {
    pub(super) setup: &'a Setup,
    pub(super) negative: &'a Embedding,
    /// What captions' embeddings become, where the method projects them.
    pub(super) projected: Option<Projected<'a>>,
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

    /// What is told of some pictures, of what is drawn for each.
    fn told(&self, pictures: &[Picture<'_>], drawn: Vec<Option<Drawn>>) -> Result<Told<'_>> {
        Ok(Told {
            edits: self.edits(&drawn)?,
            projections: self.projections(pictures, &drawn)?,
            drawn,
        })
    }

    /// The edits of some pictures.
    fn edits(&self, told: &[Option<Drawn>]) -> Result<Vec<Vec<Edit<'_>>>> {
        let edit = |(caption, away): &(String, bool)| {
            let (caption, away) = (self.conditioning(caption)?, *away);
            Ok(Edit { caption, away })
        };
        let all = told
            .iter()
            .map(|drawn| drawn.iter().flat_map(|drawn| &drawn.edits));
        all.map(|edits| edits.map(edit).collect()).collect()
    }

    /// The embeddings of some pictures where they aren't their captions' own.
    fn projections(
        &self,
        pictures: &[Picture<'_>],
        told: &[Option<Drawn>],
    ) -> Result<Vec<Option<Embedding>>> {
        let mut all = Vec::with_capacity(pictures.len());
        for (picture, drawn) in pictures.iter().zip(told) {
            all.push(match self.projected.as_ref().zip(drawn.as_ref()) {
                None => None,
                Some((projected, drawn)) => {
                    let own = self.conditioning(picture.caption)?;
                    Some(projected.embedding(own, &drawn.moves))
                }
            });
        }
        Ok(all)
    }

    /// What a painter is told of some pictures.
    fn orders<'b>(
        &'b self,
        pictures: &[Picture<'b>],
        told: &'b Told<'_>,
    ) -> Result<Vec<Order<'b>>> {
        let mut orders = Vec::with_capacity(pictures.len());
        for (place, picture) in pictures.iter().enumerate() {
            let said = told.drawn[place].as_ref();
            let said = said.and_then(|drawn| drawn.caption.as_deref());
            let caption = match &told.projections[place] {
                Some(embedding) => embedding.into(),
                None => self.conditioning(said.unwrap_or(picture.caption))?,
            };
            orders.push(Order {
                caption: picture.caption,
                job: Job {
                    caption,
                    edits: &told.edits[place],
                    prompt_id: caption_id(picture.caption),
                    image_id: picture.image_id,
                },
            });
        }
        Ok(orders)
    }

    /// A caption's embeddings.
    fn conditioning(&self, caption: &str) -> Result<Conditioning<'_>> {
        let embeddings = self.text.get(caption_id(caption))?;
        Ok(Conditioning {
            prompt_embeds: embeddings.prompt_embeds,
            pooled: embeddings.pooled,
        })
    }
}

/// A worker.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    painter: Painter,
    filter: Option<Filter>,
}

impl<'a> Worker<'a> {
    /// Loads the networks.
    pub(super) fn open(shared: &'a Shared<'a>) -> Result<Self> {
        let setup = shared.setup;
        let filter = setup.filter()?;
        let seen = setup.format != Format::None || filter.is_some();
        let size = seen.then_some([setup.size.height, setup.size.width]);
        let (session, settings) = (&shared.session, &setup.settings);
        let painter = Painter::open(&setup.bundle, &setup.runtime, session, settings, size)?;
        Ok(Self {
            shared,
            painter,
            filter,
        })
    }

    /// Makes units until there are no more.
    pub(super) fn work(&mut self, messages: &Sender<Message>) -> Result<()> {
        while let Some(unit) = self.shared.take() {
            // A unit is drawn as a whole: left half-way, its pictures would be drawn again.
            let _hold = self.shared.stop.hold(Patience::Brief);
            let rows = self.unit(unit, messages)?;
            let mut dropped = BTreeMap::new();
            for reason in rows.iter().filter_map(|row| row.dropped.clone()) {
                *dropped.entry(reason).or_default() += 1;
            }
            let kept = rows.iter().filter(|row| row.dropped.is_none()).count();
            let _ = messages.send(Message::Unit {
                unit,
                kept,
                dropped,
            });
        }
        Ok(())
    }

    /// Makes a unit and returns its rows.
    fn unit(&mut self, unit: usize, messages: &Sender<Message>) -> Result<Vec<PictureRow>> {
        let Setup {
            plan,
            identities,
            batch,
            settings,
            ..
        } = self.shared.setup;
        let shared = self.shared;
        let negative = shared.negative.into();
        let range = shared.writer.layout().unit(unit);
        let pictures: Vec<Picture<'_>> = range.map(|index| plan.picture(index)).collect();
        let mut latents = Vec::with_capacity(pictures.len() * settings.latent_len());
        let mut rows = Vec::with_capacity(pictures.len());
        for chunk in pictures.chunks(*batch) {
            let draw = |picture| identities.as_ref().and_then(|all| all.draw(picture));
            let told = shared.told(chunk, chunk.iter().map(draw).collect())?;
            let orders = shared.orders(chunk, &told)?;
            let mut stepped = || {
                let _ = messages.send(Message::Stepped(chunk.len()));
            };
            let drawn = self.painter.draw(&orders, negative, &mut stepped)?;
            let images = self.painter.decode(&drawn, &orders)?;
            let judgements = match (&mut self.filter, &images) {
                (Some(filter), Some(images)) => filter.judge(images, chunk)?,
                _ => vec![Judgement::default(); chunk.len()],
            };
            let judged = chunk.iter().zip(judgements).zip(told.drawn);
            for (place, ((picture, judgement), drawn)) in judged.enumerate() {
                let file = match &images {
                    Some(images) => self.keep(picture, &images[place])?,
                    None => None,
                };
                let latents = LatentsRef {
                    file: latents_name(unit),
                    index: rows.len(),
                };
                let mut row = row(picture, settings.seed, latents, file, judgement);
                if let Some(drawn) = drawn {
                    (row.identity, row.drawn_prompt) = (drawn.values, drawn.caption);
                }
                rows.push(row);
            }
            latents.extend(drawn);
        }
        self.shared.writer.write_unit(unit, &rows, &latents)?;
        Ok(rows)
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

fn row(
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

/// A picture's file.
fn encoded(picture: &RgbImage, format: Format) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let (width, height) = picture.dimensions();
    let colour = ExtendedColorType::Rgb8;
    let written = match format {
        Format::Jpg => image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .write_image(picture, width, height, colour),
        Format::Png | Format::None => image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(picture, width, height, colour),
    };
    written.map_err(|source| Error::Encode {
        format: format.extension().unwrap_or_default(),
        source,
    })?;
    Ok(bytes.into_inner())
}

/// The name of a picture: its place in the list and its caption, "000012-a-photo-of-a-doctor".
fn file_stem(index: usize, caption: &str) -> String {
    let mut name = format!("{index:06}-");
    let longest = name.len() + SLUG;
    for letter in caption.chars() {
        if name.len() >= longest {
            break;
        }
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_become_names() {
        let stem = |caption: &str| file_stem(7, caption);
        assert_eq!(
            stem("A photo of a  naïve chef, head!"),
            "000007-a-photo-of-a-na-ve-chef-head"
        );
        assert_eq!(stem("../../etc/passwd"), "000007-etc-passwd");
        assert_eq!(stem("画"), "000007");
        assert_eq!(stem(&"x".repeat(300)).len(), 7 + SLUG);
    }
}
