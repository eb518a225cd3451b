//! The configuration of a run: everything its numbers depend on.

use std::iter;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::losses::{self, Loss, LossKind, Parameters, Takes};
use super::rules::{self, Rule, from_zero, positive};
use super::schedule::LrSchedule;
use super::timesteps::Timesteps;
use super::{Error, Result};
use crate::data::pairs::{SET_SIZE, Sets};
use crate::device::{AdamW, Layout, Moments, Term};
use crate::random::STEP_LIMIT;

/// How the A factors start; B starts at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraInit {
    /// Normal with standard deviation 1 / rank (as the paper's code)
    Gaussian,
    /// Uniform within 1 / sqrt(inputs) (PEFT's default)
    Kaiming,
}

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW with single-precision moments
    Adamw,
    /// AdamW with moments in eight bits, as bitsandbytes': a quarter of their memory
    Adamw8bit,
}

impl Optimizer {
    /// The moments that a run starts with.
    pub fn moments(self, layout: &Layout) -> Moments<Vec<f32>, Vec<u8>> {
        match self {
            Self::Adamw => Moments::zeros(layout),
            Self::Adamw8bit => Moments::blockwise_zeros(layout),
        }
    }
}

/// Everything that the trained numbers depend on, besides the model and the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The loss.
    pub loss: LossKind,
    /// Strength of the implied divergence penalty.
    pub beta: f64,
    /// Weight of the winners in the offset μ of the PopAlign loss, 0 to 1.
    pub alpha: f64,
    /// Weight of preserving pictures under their own captions; 0 for none.
    pub preserve: f64,
    /// Rank of the LoRA.
    pub rank: usize,
    /// How A starts.
    pub init: LoraInit,
    /// Learning rate.
    pub lr: f64,
    /// How it goes.
    pub schedule: LrSchedule,
    /// Steps of rising learning rate.
    pub warmup: u32,
    /// Updates in all.
    pub steps: u32,
    /// Passes over the list of pairs, where the steps were said so.
    pub epochs: Option<u32>,
    /// Pictures in a global batch: as many winners as losers, so even.
    pub batch: usize,
    /// Pairs of a set: pictures of each side of a draw.
    pub set_size: usize,
    /// Norm that gradients are clipped to; 0 for none.
    pub grad_clip: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Decay of the first moment.
    pub adam_beta1: f64,
    /// Decay of the second moment.
    pub adam_beta2: f64,
    /// Added to the denominator.
    pub adam_eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of the average of the weights that is written instead of the last ones.
    pub ema: Option<f64>,
    /// First training time step that samples may have.
    pub min_timestep: usize,
    /// Time step before which they end; none for the schedule's last.
    pub max_timestep: Option<usize>,
    /// How they are spread between.
    #[serde(flatten)]
    pub spread: Timesteps,
    /// Seed of noise, time steps and initial factors.
    pub seed: u64,
    /// Seed of the pairs.
    pub pair_seed: u64,
}

impl Default for Config {
    /// The paper's recipe, with a learning rate for LoRA: its 5e-7 is for all of SDXL's weights.
    /// 1e-5 is what diffusers' Diffusion-DPO example trains an SDXL LoRA with.
    fn default() -> Self {
        Self {
            loss: LossKind::default(),
            beta: losses::BETA,
            alpha: losses::popalign::ALPHA,
            preserve: losses::preserve::WEIGHT,
            rank: 8,
            init: LoraInit::Gaussian,
            lr: 1e-5,
            schedule: LrSchedule::ConstantWithWarmup,
            warmup: 200,
            steps: 750,
            epochs: None,
            batch: 8,
            set_size: SET_SIZE,
            grad_clip: 1.0,
            optimizer: Optimizer::Adamw,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_eps: 1e-8,
            weight_decay: 1e-2,
            ema: None,
            min_timestep: 0,
            max_timestep: None,
            spread: Timesteps::default(),
            seed: 0,
            pair_seed: 0,
        }
    }
}

impl Config {
    /// Refuses what can't be, naming the option.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<()> {
        let unit = 0.0..1.0;
        let rules: [Rule; 12] = [
            (
                "lora",
                self.rank.to_string(),
                self.rank > 0,
                "expected a rank of 1 or more",
            ),
            (
                "lr",
                self.lr.to_string(),
                from_zero(self.lr),
                "expected a number from 0",
            ),
            (
                "steps",
                self.steps.to_string(),
                (1..STEP_LIMIT).contains(&self.steps),
                "expected a number from 1 to 16777215",
            ),
            (
                "batch",
                self.batch.to_string(),
                self.batch > 0 && self.batch.is_multiple_of(2),
                "expected an even number of pictures: as many winners as losers",
            ),
            (
                "epochs",
                self.epochs.unwrap_or(1).to_string(),
                self.epochs != Some(0),
                "expected a number of passes from 1",
            ),
            (
                "set-size",
                self.set_size.to_string(),
                (1..=MOST_OF_A_SET).contains(&self.set_size),
                "expected a number of pictures from 1 to 4096",
            ),
            (
                "grad-clip",
                self.grad_clip.to_string(),
                self.grad_clip >= 0.0,
                "expected a norm above 0, or 0 for no clipping",
            ),
            (
                "adam-beta1",
                self.adam_beta1.to_string(),
                unit.contains(&self.adam_beta1),
                UNIT,
            ),
            (
                "adam-beta2",
                self.adam_beta2.to_string(),
                unit.contains(&self.adam_beta2),
                UNIT,
            ),
            (
                "adam-eps",
                self.adam_eps.to_string(),
                positive(self.adam_eps),
                "expected above 0",
            ),
            (
                "weight-decay",
                self.weight_decay.to_string(),
                from_zero(self.weight_decay),
                "expected a number from 0",
            ),
            (
                "ema",
                self.ema.unwrap_or_default().to_string(),
                unit.contains(&self.ema.unwrap_or_default()),
                UNIT,
            ),
        ];
        let parameters = self.parameters();
        let of_losses = losses::ALL
            .iter()
            .flat_map(|loss| (loss.rules)(&parameters));
        rules::check(of_losses.chain(rules))?;
        self.check_sets()?;
        self.spread.check()
    }

    /// Refuses a batch with a part of a set.
    fn check_sets(&self) -> Result<()> {
        if self.batch.is_multiple_of(2 * self.together()) {
            return Ok(());
        }
        let name = self.loss.name;
        Err(Error::Option {
            option: "batch",
            value: self.batch.to_string(),
            problem: format!(
                "expected whole sets with --loss {name}: a multiple of twice --set-size"
            ),
        })
    }

    /// Pairs of a step.
    pub fn pairs_per_step(&self) -> usize {
        self.batch / 2
    }

    /// Preserved pictures of a step: a quarter of its pairs' pictures, where a loss takes some.
    pub fn preserved_per_step(&self) -> usize {
        match self.losses().any(|loss| loss.takes == Takes::Preserved) {
            true => self.pairs_per_step().div_ceil(2),
            false => 0,
        }
    }

    /// Pairs that stay together in a batch.
    pub fn together(&self) -> usize {
        match self.loss.takes {
            Takes::Sets => self.set_size,
            _ => 1,
        }
    }

    /// How sets are drawn and listed.
    pub fn sets(&self) -> Sets {
        Sets {
            size: self.set_size,
            together: self.loss.takes == Takes::Sets,
        }
    }

    /// What losses are told.
    fn parameters(&self) -> Parameters {
        Parameters {
            beta: self.beta,
            alpha: self.alpha,
            preserve: self.preserve,
            set_size: self.set_size,
        }
    }

    /// The losses of the run: that of its pairs, then those of preserved pictures.
    fn losses(&self) -> impl Iterator<Item = &'static Loss> {
        let parameters = self.parameters();
        let beside = losses::ALL
            .iter()
            .copied()
            .filter(move |loss| loss.takes == Takes::Preserved && (loss.weight)(&parameters) > 0.0);
        iter::once(self.loss.loss()).chain(beside)
    }

    /// What a step of so many samples, pairs first, minimises: a term of each loss of the run.
    pub fn terms(&self, samples: usize) -> Vec<Term> {
        let parameters = self.parameters();
        let term = |loss: &Loss| match loss.takes {
            Takes::Preserved => loss.term(&parameters, self.batch..samples),
            Takes::Pairs | Takes::Sets => loss.term(&parameters, 0..self.batch),
        };
        self.losses().map(term).collect()
    }

    /// The time steps that samples may have, of a schedule with `count` of them.
    ///
    /// # Errors
    /// [`Error::Option`] if the schedule has none of them.
    pub fn timesteps(&self, count: usize) -> Result<Range<usize>> {
        let range = self.min_timestep..self.max_timestep.unwrap_or(count);
        let (option, value) = match self.max_timestep {
            Some(end) if end > count => ("max-timestep", end),
            _ if range.is_empty() => ("min-timestep", range.start),
            _ => return Ok(range),
        };
        Err(Error::Option {
            option,
            value: value.to_string(),
            problem: format!("expected a range within the model's {count} training time steps"),
        })
    }

    /// The optimizer's parameters.
    pub fn adamw(&self) -> AdamW {
        AdamW {
            beta1: self.adam_beta1,
            beta2: self.adam_beta2,
            eps: self.adam_eps,
            weight_decay: self.weight_decay,
        }
    }

    /// The learning rate of the update after `done` updates.
    pub fn lr_at(&self, done: u32) -> f64 {
        self.lr * self.schedule.factor(done, self.warmup, self.steps)
    }
}

/// Pictures of a side of a draw at most: more are not one set but a data set.
const MOST_OF_A_SET: usize = 4096;
const UNIT: &str = "expected a number from 0 to below 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_nonsense_names_its_option() {
        Config::default().check().unwrap();
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(with(|c| c.batch = 7).starts_with("--batch 7: expected an even"));
        assert!(with(|c| c.beta = f64::NAN).starts_with("--beta NaN"));
        assert!(with(|c| c.alpha = 1.5).starts_with("--alpha 1.5"));
        assert!(with(|c| c.ema = Some(1.0)).starts_with("--ema 1"));
        assert!(with(|c| c.rank = 0).starts_with("--lora 0"));
        assert!(with(|c| c.epochs = Some(0)).starts_with("--epochs 0"));
        assert!(with(|c| c.set_size = 0).starts_with("--set-size 0"));
        assert!(
            with(|c| c.loss = LossKind::named("set").unwrap())
                .starts_with("--batch 8: expected whole sets")
        );
    }
}
