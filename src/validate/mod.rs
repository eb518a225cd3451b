//! Validation: drawing and scoring pictures while training goes on.
//!
//! Every so many steps, before the first and after the last, the LoRA as it is draws some pictures of
//! each validation caption; the classifier chain looks at them, and the discrepancy of each axis goes
//! into `validation.jsonl` and TensorBoard. A loss says how far preferences are learnt, not whether the
//! population is right: that only pictures show. With a target the run ends when it is met.
//!
//! Nothing is written but numbers: pictures live as long as it takes to look at them. They are drawn as
//! `pa-datagen` draws (the same painters), with plain guidance and the data set's sampler, steps and scale
//! unless the user says otherwise, and scored as `pa-score` scores (the same evidence). Their noise is addressed by
//! the run's seed, the caption and numbers that no data set uses, so every validation of a run sees
//! the same noise, whether it was broken or not, and differences between steps are the LoRA's.
//!
//! The UNet, the VAE and the chain are loaded once; the text encoders only while captions are encoded.

mod draw;
mod open;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::align::Result;
use crate::datagen::Plan;
use crate::diffusion::painter::Painter;
use crate::diffusion::text::Embedding;
use crate::judge::chain::Chain;
use crate::score::choice::Metrics;
use crate::score::population::Population;

pub use open::Inputs;

/// What the user asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Pictures of each caption.
    pub pictures: u32,
    /// Steps between validations.
    pub every: u32,
    /// Mean discrepancy over axes at or below which the run ends.
    pub target: Option<f64>,
    /// Prompts, as `pa-datagen` takes them [default: the data set's neutral captions of people].
    pub prompts: Option<PathBuf>,
    /// Classifier chain [default: the bundle's, then `faces`].
    pub chain: Option<String>,
    /// Sampling steps [default: the data set's].
    pub steps: Option<u32>,
    /// Guidance scale [default: the data set's].
    pub cfg: Option<f32>,
}

impl Request {
    /// Refuses what can't be, naming the option.
    ///
    /// # Errors
    /// [`Error::Option`](crate::align::Error::Option).
    pub fn check(&self) -> Result<()> {
        let rules: [(&'static str, String, bool, &'static str); 4] = [
            (
                "validate",
                self.pictures.to_string(),
                (1..1 << 31).contains(&self.pictures),
                "expected a number of pictures from 1",
            ),
            (
                "validate-every",
                self.every.to_string(),
                self.every > 0,
                "expected a number of steps from 1",
            ),
            (
                "validate-cfg",
                self.cfg.unwrap_or_default().to_string(),
                self.cfg
                    .is_none_or(|scale| scale >= 0.0 && scale.is_finite()),
                "expected a scale from 0",
            ),
            (
                "target-discrepancy",
                self.target.unwrap_or_default().to_string(),
                self.target.is_none_or(|d| d >= 0.0 && d.is_finite()),
                "expected a number from 0",
            ),
        ];
        crate::align::config::check(rules)
    }
}

/// What was seen of one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Its name.
    pub axis: String,
    /// Mean of D over captions, from most probable values; none if no picture counts.
    pub discrepancy: Option<f64>,
    /// The same from the classifier's probabilities.
    pub soft_discrepancy: Option<f64>,
    /// What a population that meets the target would show with as many pictures.
    pub floor: Option<f64>,
    /// The share of each value over all pictures that count.
    pub shares: BTreeMap<String, f64>,
}

/// One line of `validation.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Updates done.
    pub step: u32,
    /// Mean of the axes' discrepancies; none if no picture counts.
    pub discrepancy: Option<f64>,
    /// By axis.
    pub axes: Vec<Axis>,
    /// Pictures drawn.
    pub pictures: usize,
    /// Those in which the chain saw a person.
    pub kept: usize,
    /// The others, by reason.
    pub dropped: BTreeMap<String, usize>,
}

/// When a run validates, and when that ends it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Steps between validations.
    pub every: u32,
    /// Steps of the run.
    pub steps: u32,
    /// Mean discrepancy that ends it.
    pub target: Option<f64>,
}

impl Schedule {
    /// Whether an unbroken run validates after this many updates.
    pub fn due(&self, step: u32) -> bool {
        step.is_multiple_of(self.every.max(1)) || step == self.steps
    }

    /// The discrepancy of a record that ends the run. What was so before training ends nothing.
    pub fn met(&self, record: &Record) -> Option<f64> {
        let found = record.discrepancy.filter(|_| record.step > 0)?;
        (found <= self.target?).then_some(found)
    }
}

/// Everything that validations need, loaded.
#[derive(Debug)]
pub struct Validator {
    schedule: Schedule,
    plan: Plan,
    /// By the id of their caption.
    embeddings: HashMap<u32, Embedding>,
    negative: Embedding,
    painters: Vec<Painter>,
    /// Pictures a painter draws at once.
    batch: usize,
    chain: Chain,
    metrics: Metrics,
    population: Population,
    facts: Value,
}

impl Validator {
    /// When it is due.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// What the records depend on, for the run's manifest.
    pub fn facts(&self) -> &Value {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u32, discrepancy: Option<f64>) -> Record {
        Record {
            step,
            discrepancy,
            axes: Vec::new(),
            pictures: 0,
            kept: 0,
            dropped: BTreeMap::new(),
        }
    }

    #[test]
    fn options_that_can_not_be_are_named() {
        let fine = Request {
            pictures: 4,
            every: 10,
            target: Some(0.2),
            prompts: None,
            chain: None,
            steps: None,
            cfg: Some(1.0),
        };
        fine.check().unwrap();
        let refused = |change: fn(&mut Request)| {
            let mut request = fine.clone();
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert!(refused(|r| r.cfg = Some(f32::NAN)).starts_with("--validate-cfg NaN"));
        assert!(refused(|r| r.target = Some(-1.0)).starts_with("--target-discrepancy -1"));
        assert!(refused(|r| r.pictures = 1 << 31).starts_with("--validate 2147483648"));
    }

    #[test]
    fn it_is_due_at_both_ends_and_ended_by_its_target() {
        let mut schedule = Schedule {
            every: 4,
            steps: 10,
            target: Some(0.25),
        };
        let due: Vec<u32> = (0..=10).filter(|&step| schedule.due(step)).collect();
        assert_eq!(due, [0, 4, 8, 10]);
        assert_eq!(schedule.met(&record(4, Some(0.25))), Some(0.25));
        assert_eq!(schedule.met(&record(4, Some(0.26))), None);
        assert_eq!(schedule.met(&record(4, None)), None);
        assert_eq!(schedule.met(&record(0, Some(0.1))), None, "before training");
        schedule.target = None;
        assert_eq!(schedule.met(&record(4, Some(0.0))), None);
    }
}
