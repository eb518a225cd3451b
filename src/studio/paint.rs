//! Drawing, and what the LoRA as it stands predicts.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use image::RgbImage;

use super::open::Studio;
use crate::diffusion::painter::{self, Developer, Order, Painter};
use crate::diffusion::pipeline::{Job, Noised};
use crate::diffusion::text::Embedding;
use crate::judge::chain::Verdict;
use crate::lora::Fitted;
use crate::prompts::caption_id;

/// A picture of the plan: its latents, [C, h, w], and what the chain says of it.
pub(super) type Seen = (Vec<f32>, Verdict);
type Painted = (Vec<f32>, RgbImage);

impl Studio {
    /// Draws with this adapter from now on.
    pub(super) fn set_lora(&mut self, lora: Fitted) {
        let lora = Arc::new(lora);
        for (painter, _) in &mut self.painters {
            painter.set_lora(Arc::clone(&lora));
        }
    }

    /// Draws pictures of the plan and looks at them, in order; nothing if the run was stopped. The numbers in their
    /// noise's addresses are the plan's and `first`.
    pub(super) fn see(
        &mut self,
        pictures: &[usize],
        first: u32,
    ) -> super::Result<Option<Vec<Seen>>> {
        let mut seen = Vec::with_capacity(pictures.len());
        // As many pictures at a time as the painters draw at once: there may be too many to keep.
        for together in pictures.chunks(self.painters.len() * self.batch) {
            if self.stop.asked() {
                return Ok(None);
            }
            let (latents, images): (Vec<_>, Vec<_>) =
                self.paint(together, first)?.into_iter().unzip();
            seen.extend(latents.into_iter().zip(self.chain.classify(&images)?));
        }
        Ok(Some(seen))
    }

    /// Draws some pictures of the plan, a batch on each painter.
    fn paint(&mut self, pictures: &[usize], first: u32) -> painter::Result<Vec<Painted>> {
        let order = |&index: &usize| {
            let picture = self.plan.picture(index);
            let prompt_id = caption_id(picture.caption);
            Order {
                caption: picture.caption,
                job: Job {
                    caption: (&self.embeddings[&prompt_id]).into(),
                    edits: &[],
                    prompt_id,
                    image_id: first + picture.image_id,
                },
            }
        };
        let orders: Vec<Order<'_>> = pictures.iter().map(order).collect();
        let (negative, parts) = (&self.negative, orders.chunks(self.batch));
        on_each(&mut self.painters, parts, |(painter, developer), orders| {
            one(painter, developer, orders, negative)
        })
    }

    /// What the adapter predicts, [n, C, h, w], pictures of each time step in turn on each painter.
    pub(super) fn predict(&mut self, noised: &Noised<'_>) -> painter::Result<Vec<f32>> {
        let batch = self.batch;
        let mut parts: Vec<Range<usize>> = Vec::new();
        for (row, timestep) in noised.timesteps.iter().enumerate() {
            match parts.last_mut() {
                Some(part) if part.len() < batch && noised.timesteps[part.start] == *timestep => {
                    part.end = row + 1;
                }
                _ => parts.push(row..row + 1),
            }
        }
        let mut found = Vec::with_capacity(noised.sample.len());
        for together in parts.chunks(self.painters.len()) {
            let parts = together.iter().map(|rows| part(noised, rows));
            let of_parts = on_each(&mut self.painters, parts, |(painter, _), noised| {
                painter.predict(&noised).map(|prediction| vec![prediction])
            });
            found.extend(of_parts?.into_iter().flatten());
        }
        Ok(found)
    }
}

/// Some rows of noised pictures.
fn part<'a>(all: &Noised<'a>, rows: &Range<usize>) -> Noised<'a> {
    let n = all.timesteps.len();
    let of = |values: &'a [f32]| {
        let length = values.len() / n;
        &values[rows.start * length..rows.end * length]
    };
    Noised {
        sample: of(all.sample),
        timesteps: &all.timesteps[rows.clone()],
        prompt_embeds: of(all.prompt_embeds),
        pooled: of(all.pooled),
    }
}

/// Works on a part on each painter at once; gives what came of them, in order.
fn on_each<P: Send, T: Send>(
    painters: &mut [(Painter, Developer)],
    parts: impl Iterator<Item = P>,
    work: impl Fn(&mut (Painter, Developer), P) -> painter::Result<Vec<T>> + Sync,
) -> painter::Result<Vec<T>> {
    let work = &work;
    let of_parts: Vec<painter::Result<Vec<T>>> = thread::scope(|scope| {
        let busy: Vec<_> = painters
            .iter_mut()
            .zip(parts)
            .map(|(painter, part)| scope.spawn(move || work(painter, part)))
            .collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| match handle.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        busy.into_iter().map(join).collect()
    });
    let of_parts: Vec<Vec<T>> = of_parts.into_iter().collect::<painter::Result<_>>()?;
    Ok(of_parts.into_iter().flatten().collect())
}

/// Draws and decodes a batch.
fn one(
    painter: &mut Painter,
    developer: &mut Developer,
    orders: &[Order<'_>],
    negative: &Embedding,
) -> painter::Result<Vec<Painted>> {
    let latents = painter.draw(orders, negative.into(), &mut || ())?;
    let images = developer.decode(&latents, orders)?.unwrap_or_default();
    let length = latents.len() / orders.len();
    let latents = latents.chunks_exact(length).map(<[f32]>::to_vec);
    Ok(latents.zip(images).collect())
}
