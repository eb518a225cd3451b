//! Rounds: new pictures each time, to train on.

use serde_json::{Value, json};

use super::open::{Asked, Studio};
use super::record::record;
use crate::align;
use crate::align::online::{self, Artist, Drawn, Online, Rollout, Round};
use crate::align::order::Order;
use crate::align::validation::Inputs;
use crate::diffusion::pipeline::Noised;
use crate::judge::chain::Verdict;
use crate::judge::scales::Scale;
use crate::lora::Fitted;
use crate::prompts::caption_id;

/// The first image number of rounds: see that of validations.
const FIRST_IMAGE: u32 = 1 << 30;

/// What the user asks for, beside what the run's numbers depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds {
    /// The pictures of a round.
    pub asked: Asked,
    /// How the run trains on them.
    pub online: Online,
}

/// A studio that draws rounds.
#[derive(Debug)]
struct Own {
    studio: Studio,
    online: Online,
    seed: u64,
    facts: Value,
}

impl online::Studio for Rounds {
    fn open(&self, inputs: &Inputs<'_>) -> align::Result<Box<dyn Artist>> {
        let studio = Studio::open(&self.asked, inputs)?;
        let mut facts = studio.facts.clone();
        facts["captions"] = json!(studio.plan.captions().len());
        Ok(Box::new(Own {
            studio,
            online: self.online,
            seed: inputs.seed,
            facts,
        }))
    }
}

impl Own {
    /// Captions of a round.
    fn captions(&self) -> usize {
        let all = self.studio.plan.captions().len();
        let asked = self.online.captions.map(|n| n as usize);
        asked.map_or(all, |asked| asked.min(all))
    }

    /// Places in the plan of a round's pictures: captions take turns, in another order each time round.
    fn places(&self, round: Round) -> Vec<usize> {
        let (count, each) = (self.captions(), self.online.pictures as usize);
        let order = Order {
            pairs: self.studio.plan.captions().len(),
            set: 1,
            shuffled: Some(self.seed),
        };
        let mut captions = order.visits(round.number as usize * count, count);
        captions.sort_unstable();
        captions.dedup();
        let places = |caption: usize| caption * each..(caption + 1) * each;
        captions.into_iter().flat_map(places).collect()
    }
}

impl Artist for Own {
    fn facts(&self) -> &Value {
        &self.facts
    }

    fn pictures(&self) -> usize {
        self.captions() * self.online.pictures as usize
    }

    fn draw(&mut self, round: Round, lora: Fitted) -> align::Result<Option<Rollout>> {
        let places = self.places(round);
        let studio = &mut self.studio;
        studio.set_lora(lora);
        let first = FIRST_IMAGE + round.number * self.online.pictures;
        let Some(seen) = studio.see(&places, first)? else {
            return Ok(None);
        };
        let mut pictures = Vec::with_capacity(seen.len());
        let mut verdicts = Vec::with_capacity(seen.len());
        for ((latents, verdict), &place) in seen.into_iter().zip(&places) {
            let picture = studio.plan.picture(place);
            if let Some(shares) = shares(&studio.metrics.scales, &verdict) {
                pictures.push(Drawn {
                    caption_id: caption_id(picture.caption),
                    image_id: first + picture.image_id,
                    latents,
                    shares,
                });
            }
            verdicts.push(verdict);
        }
        let targets = studio.metrics.scales.iter().map(|s| s.target.clone());
        let (plan, metrics) = (&studio.plan, &studio.metrics);
        Ok(Some(Rollout {
            pictures,
            targets: targets.collect(),
            record: record(round.first, plan, &places, metrics, verdicts),
        }))
    }

    fn predict(&mut self, noised: &Noised<'_>) -> align::Result<Vec<f32>> {
        let predicted = self.studio.predict(noised);
        Ok(predicted.map_err(super::Error::from)?)
    }
}

/// The probability of each value of each axis, of a picture that counts.
fn shares(scales: &[Scale], verdict: &Verdict) -> Option<Vec<Vec<f64>>> {
    let Verdict::Kept(attributes) = verdict else {
        return None;
    };
    let read = |scale: &Scale| Some(scale.read(attributes).ok()?.shares);
    scales.iter().map(read).collect()
}
