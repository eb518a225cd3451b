//! What the workers of a run share, and what they tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use super::plan::Work;
use super::setup::Setup;
use super::times::Times;
use super::{Error, Picture, Result};
use crate::base::Stop;
use crate::data::writer::{DatasetWriter, TextFile};
use crate::diffusion::painter::Order;
use crate::diffusion::pipeline::{Conditioning, Job};
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

/// What workers share.
pub(super) struct Shared<'a> {
    pub(super) setup: &'a Setup,
    pub(super) negative: &'a Embedding,
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

    /// What a painter is told of some pictures.
    pub(super) fn orders<'a>(&'a self, pictures: &[Picture<'a>]) -> Result<Vec<Order<'a>>> {
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
