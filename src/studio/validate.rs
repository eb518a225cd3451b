//! Validation: the same pictures again and again, with the LoRA as it stands.

use serde_json::{Value, json};

use super::open::Studio;
use super::record::record;
use super::request::Request;
use crate::align;
use crate::align::validation::{Inputs, Record, Schedule, Validation, Validator};
use crate::diffusion::lost::Lost;
use crate::lora::Fitted;

/// The first image number of validations: data sets count from 0, rounds from half of it, so no noise is met twice.
const FIRST_IMAGE: u32 = 1 << 31;

/// A studio that validates.
#[derive(Debug)]
struct Critic {
    studio: Studio,
    schedule: Schedule,
    facts: Value,
}

impl Validation for Request {
    fn open(&self, inputs: &Inputs<'_>) -> align::Result<Box<dyn Validator>> {
        self.check()?;
        let studio = Studio::open(&self.asked, inputs)?;
        let mut facts = studio.facts.clone();
        facts["every"] = json!(self.every);
        facts["target"] = json!(self.target);
        Ok(Box::new(Critic {
            studio,
            schedule: Schedule {
                every: self.every,
                steps: inputs.steps,
                target: self.target,
            },
            facts,
        }))
    }
}

impl Validator for Critic {
    fn schedule(&self) -> Schedule {
        self.schedule
    }

    fn facts(&self) -> &Value {
        &self.facts
    }

    fn lost(&self) -> &Lost {
        &self.studio.lost
    }

    fn pictures(&self) -> usize {
        self.studio.plan.len()
    }

    fn run(&mut self, step: u32, lora: Fitted) -> align::Result<Option<Record>> {
        let studio = &mut self.studio;
        studio.set_lora(lora);
        let all: Vec<usize> = (0..studio.plan.len()).collect();
        let Some(seen) = studio.see(&all, FIRST_IMAGE)? else {
            return Ok(None);
        };
        let verdicts = seen.into_iter().map(|(_, verdict)| verdict).collect();
        let (plan, metrics) = (&studio.plan, &studio.metrics);
        Ok(Some(record(step, plan, &all, metrics, verdicts)))
    }
}
