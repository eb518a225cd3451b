//! One validation: drawing, looking, scoring.

use std::collections::BTreeMap;

use std::sync::Arc;

use image::RgbImage;
use serde_json::Value;

use super::Error;
use super::open::Loaded;
use crate::align;
use crate::align::validation::{Axis, Record, Schedule, Validator};
use crate::diffusion::lost::Lost;
use crate::diffusion::painter::{self, Developer, Order, Painter};
use crate::diffusion::pipeline::Job;
use crate::diffusion::text::Embedding;
use crate::judge::chain::Verdict;
use crate::lora::Fitted;
use crate::prompts::caption_id;
use crate::score::assess::{Evidence, Qualities};
use crate::score::look::{Look, Looks};
use crate::score::scores::{AxisScore, Sided};

/// The first image number of validations: data sets count from 0, so no noise is met twice.
const FIRST_IMAGE: u32 = 1 << 31;

impl Validator for Loaded {
    fn schedule(&self) -> Schedule {
        self.schedule
    }

    fn facts(&self) -> &Value {
        &self.facts
    }

    fn lost(&self) -> &Lost {
        &self.lost
    }

    fn pictures(&self) -> usize {
        self.plan.len()
    }

    fn run(&mut self, step: u32, lora: Fitted) -> align::Result<Option<Record>> {
        let lora = Arc::new(lora);
        for (painter, _) in &mut self.painters {
            painter.set_lora(Arc::clone(&lora));
        }
        let mut verdicts = Vec::with_capacity(self.plan.len());
        // As many pictures at a time as the painters draw at once: there may be too many to keep.
        let together = self.painters.len() * self.batch;
        for first in (0..self.plan.len()).step_by(together) {
            if self.stop.asked() {
                return Ok(None);
            }
            let images = self.paint(first..(first + together).min(self.plan.len()));
            let images = images.map_err(Error::from)?;
            verdicts.extend(self.chain.classify(&images).map_err(Error::from)?);
        }
        Ok(Some(self.score(step, verdicts)))
    }
}

impl Loaded {
    /// Draws some pictures of the plan, a batch on each painter.
    fn paint(&mut self, pictures: std::ops::Range<usize>) -> painter::Result<Vec<RgbImage>> {
        let orders: Vec<Order<'_>> = pictures
            .map(|index| {
                let picture = self.plan.picture(index);
                let prompt_id = caption_id(picture.caption);
                Order {
                    caption: picture.caption,
                    job: Job {
                        caption: (&self.embeddings[&prompt_id]).into(),
                        edits: &[],
                        prompt_id,
                        image_id: FIRST_IMAGE + picture.image_id,
                    },
                }
            })
            .collect();
        let (negative, painters) = (&self.negative, &mut self.painters);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let busy: Vec<_> = painters
                .iter_mut()
                .zip(orders.chunks(self.batch))
                .map(|(painter, orders)| scope.spawn(move || one(painter, orders, negative)))
                .collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| match handle.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            busy.into_iter().map(join).collect()
        });
        let parts: Vec<Vec<RgbImage>> = parts.into_iter().collect::<painter::Result<_>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn score(&self, step: u32, verdicts: Vec<Verdict>) -> Record {
        let look = |verdict| Look {
            sha256: None,
            problem: None,
            verdict,
            embeddings: BTreeMap::new(),
        };
        let looks = Looks {
            slots: vec![None; verdicts.len()],
            shots: verdicts.into_iter().map(look).collect(),
        };
        let evidence = Evidence {
            population: &self.population,
            looks: &looks,
            qualities: &Qualities::default(),
            metrics: &self.metrics,
            replicates: 0,
            seed: 0,
        };
        let axes: Vec<Axis> = evidence.axes().iter().map(axis).collect();
        let found: Vec<f64> = axes.iter().filter_map(|axis| axis.discrepancy).collect();
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let counts = evidence
            .counts(&self.population.prompts)
            .scored
            .unwrap_or_default();
        Record {
            step,
            discrepancy: (!found.is_empty()).then_some(mean),
            axes,
            pictures: counts.files,
            kept: counts.kept,
            dropped: counts.dropped,
        }
    }
}

/// Draws and decodes a batch.
fn one(
    (painter, developer): &mut (Painter, Developer),
    orders: &[Order<'_>],
    negative: &Embedding,
) -> painter::Result<Vec<RgbImage>> {
    let latents = painter.draw(orders, negative.into(), &mut || ())?;
    Ok(developer.decode(&latents, orders)?.unwrap_or_default())
}

fn axis(score: &AxisScore) -> Axis {
    let value = |sided: &Sided<crate::score::bootstrap::Estimate>| {
        sided.scored.map(|estimate| estimate.value)
    };
    let number = score.numbers.headline();
    let shares = score.shares.scored.iter().flatten();
    Axis {
        axis: score.axis.clone(),
        discrepancy: number.and_then(|n| value(&n.hard)),
        soft_discrepancy: number.and_then(|n| value(&n.soft)),
        floor: number.and_then(|n| n.floor_of(0)),
        shares: score.values.iter().cloned().zip(shares.copied()).collect(),
    }
}
