//! What the workers of a run share, and what they tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use super::identity::Drawn;
use super::plan::Work;
use super::projected::Projected;
use super::setup::Setup;
use super::times::Times;
use super::{Error, Picture, Result};
use crate::base::Stop;
use crate::data::writer::{DatasetWriter, TextFile};
use crate::diffusion::painter::Order;
use crate::diffusion::pipeline::{Conditioning, Edit, Job};
use crate::diffusion::text::Embedding;
use crate::prompts::caption_id;
use crate::runtime::SessionOptions;

/// What workers tell the thread that reports.
pub(super) enum Message {
    Stepped(usize),
    Unit {
        unit: usize,
        kept: usize,
        dropped: BTreeMap<String, usize>,
        times: Times,
        /// Pictures that are drawn in addition, in place of those that were dropped.
        more: usize,
    },
    /// A unit that nothing was to be drawn of.
    Unneeded,
    Failed(Error),
}

/// What beside their captions some pictures are drawn by.
pub(super) struct Told<'a> {
    pub(super) drawn: Vec<Option<Drawn>>,
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
    /// The queue.
    pub(super) todo: &'a [Work],
    pub(super) next: AtomicUsize,
    pub(super) stop: &'a Stop,
    /// Whether a worker failed: then the others end too.
    pub(super) failed: AtomicBool,
}

impl Shared<'_> {
    /// The next of the queue, until it is empty or the run is stopped.
    pub(super) fn take(&self) -> Option<&Work> {
        if self.ends() {
            return None;
        }
        let place = self.next.fetch_add(1, Ordering::SeqCst);
        self.todo.get(place)
    }

    /// Whether nothing is to be begun any more.
    pub(super) fn ends(&self) -> bool {
        self.stop.asked() || self.failed.load(Ordering::SeqCst)
    }

    /// Ends the run, and says why.
    pub(super) fn fail(&self, error: Error, messages: &Sender<Message>) {
        self.failed.store(true, Ordering::SeqCst);
        let _ = messages.send(Message::Failed(error));
    }

    /// What is told of some pictures.
    pub(super) fn told(&self, pictures: &[Picture<'_>]) -> Result<Told<'_>> {
        let identities = self.setup.identities.as_ref();
        let draw = |picture| identities.and_then(|all| all.draw(picture));
        let drawn: Vec<Option<Drawn>> = pictures.iter().map(draw).collect();
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
    pub(super) fn orders<'b>(
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
