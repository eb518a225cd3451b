//! Validation as a run sees it: when it is due, what it says, and who does it. How pictures are drawn
//! and scored is for whoever is handed in (`crate::studio`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Result;
use crate::base::Stop;
use crate::bundle::Bundle;
use crate::data::pool::Pool;
use crate::diffusion::lost::Lost;
use crate::diffusion::schedule::SchedulerConfig;
use crate::lora::Fitted;
use crate::prompts::Axes;
use crate::runtime::{Runtime, SessionOptions};

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

/// What a validator is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The model.
    pub bundle: &'a Bundle,
    /// Its noise schedule.
    pub scheduler: &'a SchedulerConfig,
    /// The data sets of the run; pictures are of the first one's size.
    pub pool: &'a Pool,
    /// The axes with their targets.
    pub axes: Option<&'a Axes>,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// How graphs are run.
    pub session: &'a SessionOptions,
    /// Seed of the pictures' noise.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u32,
    /// Who may stop it.
    pub stop: &'a Stop,
}

/// Validations as they were asked for.
pub trait Validation: std::fmt::Debug + Send + Sync {
    /// Checks what was asked for against what there is, and loads what it needs.
    ///
    /// # Errors
    /// An option that can't be, a bundle without the parts, a chain that doesn't measure the axes.
    fn open(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Validator>>;
}

/// Everything that validations need, loaded.
pub trait Validator: std::fmt::Debug {
    /// When it is due.
    fn schedule(&self) -> Schedule;

    /// What the records depend on, for the run's manifest.
    fn facts(&self) -> &Value;

    /// What its captions lose that are too long for the text encoders.
    fn lost(&self) -> &Lost;

    /// Pictures of a validation.
    fn pictures(&self) -> usize;

    /// Draws with these factors and scores what comes out; nothing if the run was stopped.
    ///
    /// # Errors
    /// A network that fails, a picture that is none.
    fn run(&mut self, step: u32, lora: Fitted) -> Result<Option<Record>>;
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
