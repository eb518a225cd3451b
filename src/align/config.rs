//! The configuration of a run: everything its numbers depend on.

use std::iter;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::losses::{self, Loss, LossKind, Parameters, Takes, min_snr};
use super::online::Online;
use super::optimizer::Optimizer;
use super::rules::{self, Rule};
use super::schedule::LrSchedule;
use super::timesteps::Timesteps;
use super::{Error, Result};
use crate::base::Values;
use crate::data::pairs::{SET_SIZE, Sets};
use crate::device::{AdamW, Term};
use crate::family::Prediction;
use crate::lora::MOST_RANK;
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

/// What a pair is trained with that loses its caption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dropped {
    /// The empty caption's embeddings (as the official code)
    #[default]
    Empty,
    /// What guidance draws away from: zeros where the model takes them for no caption (SDXL), else the empty caption
    Unconditional,
}

/// What `--lora` can be.
pub const RANKS: Values<usize> = Values::within("a rank", 1, MOST_RANK);
/// What `--batch` can be: a step's latents and noise are held at once, and twice Diffusion-DPO's 2048
/// is more than any recipe takes.
pub const BATCHES: Values<usize> = Values::within("a number of pairs", 1, 4096);
/// What `--micro-batch` can be: the pictures of such a batch.
pub const MICRO_BATCHES: Values<usize> = Values::within("a number of pictures", 1, 8192);
/// Most pairs that a run can draw: all are listed in memory and in `pairs.jsonl`.
const MOST_PAIRS: usize = 1 << 24;
/// What `--lr` and `--weight-decay` can be.
pub const RATES: Values<f64> = Values::from("a number", 0.0);
/// What `--steps` can be: every step has an address of its own noise.
pub const STEPS: Values<u32> = Values::within("a number", 1, STEP_LIMIT - 1);
/// What `--epochs` can be.
pub const EPOCHS: Values<u32> = Values::from("a number of passes", 1);
/// What `--set-size` can be: more pictures are not one set but a data set.
pub const SET_SIZES: Values<usize> = Values::within("a number of pictures", 1, 4096);
/// What `--grad-clip` can be.
pub const NORMS: Values<f64> = Values::from("a norm", 0.0);
/// What `--adam-beta1`, `--adam-beta2` and `--ema` can be.
pub const DECAYS: Values<f64> = Values::below("a number", 0.0, 1.0);
/// What `--caption-dropout` can be.
pub const DROPOUTS: Values<f64> = Values::within("a share", 0.0, 1.0);
/// What `--lora-alpha` can be.
pub const LORA_ALPHAS: Values<f64> = Values::within("a number", 1e-6, 1e6);
/// What `--adam-eps` can be.
pub const EPSILONS: Values<f64> = Values::above("a number", 0.0);

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
    /// γ of min-SNR weighting, for a loss that takes it.
    pub snr_gamma: Option<f64>,
    /// Share of pairs that are trained without their caption.
    pub caption_dropout: f64,
    /// What stands for a caption that is dropped.
    #[serde(default)]
    pub dropped_caption: Dropped,
    /// Rank of the LoRA.
    pub rank: usize,
    /// What the LoRA's product is multiplied with, times the rank; none for the rank itself.
    pub lora_alpha: Option<f64>,
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
    /// Pairs in a global batch: as many winners as losers.
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
    /// Rounds of pictures that the run draws itself, instead of pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<Online>,
    /// Seed of noise, time steps and initial factors.
    pub seed: u64,
    /// Seed of the pairs.
    pub pair_seed: u64,
}

impl Default for Config {
    /// The paper's recipe (its batch of 8 pairs is 2 on each of 4 GPUs), with a learning rate for LoRA: its
    /// 5e-7 is for all of SDXL's weights.
    fn default() -> Self {
        Self {
            loss: LossKind::default(),
            beta: losses::BETA,
            alpha: losses::popalign::ALPHA,
            preserve: losses::preserve::WEIGHT,
            snr_gamma: None,
            caption_dropout: 0.2,
            dropped_caption: Dropped::default(),
            rank: 8,
            lora_alpha: None,
            init: LoraInit::Gaussian,
            lr: Optimizer::Adamw.lr(),
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
            online: None,
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
        let parameters = self.parameters();
        let of_losses = losses::ALL
            .iter()
            .flat_map(|loss| (loss.rules)(&parameters));
        rules::check(of_losses)?;
        rules::check(self.alone())?;
        rules::check(self.beside())?;
        let online = self.online.iter();
        rules::check(online.flat_map(|online| online.rules(self.steps)))?;
        self.spread.check()
    }

    /// What single options must be.
    fn alone(&self) -> [Rule; 14] {
        [
            Rule::values("batch", self.batch, BATCHES),
            Rule::values("lora", self.rank, RANKS),
            Rule::values("lora-alpha", self.alpha_of_lora(), LORA_ALPHAS),
            Rule::values("caption-dropout", self.caption_dropout, DROPOUTS),
            Rule::values("lr", self.lr, RATES),
            Rule::values("steps", self.steps, STEPS),
            Rule::values("epochs", self.epochs.unwrap_or(1), EPOCHS),
            Rule::values("set-size", self.set_size, SET_SIZES),
            Rule::values("grad-clip", self.grad_clip, NORMS),
            Rule::values("adam-beta1", self.adam_beta1, DECAYS),
            Rule::values("adam-beta2", self.adam_beta2, DECAYS),
            Rule::values("adam-eps", self.adam_eps, EPSILONS),
            Rule::values("weight-decay", self.weight_decay, RATES),
            Rule::values("ema", self.ema.unwrap_or_default(), DECAYS),
        ]
    }

    /// What options must be beside others.
    fn beside(&self) -> [Rule; 3] {
        let drawn = self.batch.saturating_mul(self.steps as usize);
        [
            Rule::beside(
                "batch",
                self.batch,
                self.batch.is_multiple_of(self.together()),
                format!(
                    "whole sets with --loss {}: a multiple of --set-size, {}",
                    self.loss.name, self.set_size
                ),
            ),
            Rule::beside(
                "snr-gamma",
                self.snr_gamma.unwrap_or_default(),
                self.snr_gamma.is_none() || self.loss.by_snr,
                format!(
                    "--loss sft beside it: --loss {} compares errors of one time step",
                    self.loss.name
                ),
            ),
            Rule::beside(
                "steps",
                self.steps as usize,
                self.epochs.is_some() || drawn <= MOST_PAIRS,
                format!("a run of up to {MOST_PAIRS} pairs, which --steps times --batch exceeds"),
            ),
        ]
    }

    /// Pictures of a step's pairs, or as many that the run has drawn.
    pub fn paired_pictures(&self) -> usize {
        2 * self.batch
    }

    /// Preserved pictures of a step: a quarter of its pairs' pictures, where a loss takes some.
    pub fn preserved_per_step(&self) -> usize {
        match self.losses().any(|loss| loss.takes == Takes::Preserved) {
            true => self.batch.div_ceil(2),
            false => 0,
        }
    }

    /// Sizes of a step's micro-batches where all pictures are of one size: whole ones, and what is left over.
    pub fn micro_batches(&self, most: usize) -> impl Iterator<Item = usize> + use<> {
        let samples = self.paired_pictures() + self.preserved_per_step();
        let most = most.clamp(1, samples.max(1));
        [most, samples % most].into_iter().filter(|&n| n > 0)
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
            snr_gamma: self.snr_gamma,
            strength: self.online.map(|online| online.strength),
        }
    }

    /// The LoRA's alpha: its product counts alpha / rank.
    pub fn alpha_of_lora(&self) -> f64 {
        self.lora_alpha.unwrap_or(self.rank as f64)
    }

    /// The weight of the pairs' terms at a time step that leaves the share `alpha` of the clean latent's
    /// variance.
    pub fn weight_at(&self, alpha: f32, prediction: Prediction) -> f32 {
        let weight = |gamma| min_snr::weight(gamma, alpha, prediction);
        self.snr_gamma.map_or(1.0, weight)
    }

    /// The losses of the run: that of its pairs or drawn pictures, then those of preserved pictures.
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
        let (parameters, paired) = (self.parameters(), self.paired_pictures());
        let term = |loss: &Loss| match loss.takes {
            Takes::Preserved => loss.term(&parameters, paired..samples),
            Takes::Pairs | Takes::Sets | Takes::Drawn => loss.term(&parameters, 0..paired),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_nonsense_names_its_option() {
        Config::default().check().unwrap();
        assert_eq!(Config::default().paired_pictures(), 16, "8 pairs");
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(with(|c| c.batch = 0).starts_with("--batch 0: expected a number of pairs from 1"));
        assert!(with(|c| c.batch = usize::MAX).starts_with("--batch 18446744073709551615"));
        assert!(with(|c| c.rank = 1025).starts_with("--lora 1025: expected a rank from 1 to 1024"));
        assert!(with(|c| (c.steps, c.batch) = (1 << 22, 8)).contains("up to 16777216 pairs"));
        assert!(with(|c| c.beta = f64::NAN).starts_with("--beta NaN"));
        assert!(with(|c| c.alpha = 1.5).starts_with("--alpha 1.5"));
        assert!(with(|c| c.ema = Some(1.0)).starts_with("--ema 1"));
        assert!(with(|c| c.rank = 0).starts_with("--lora 0"));
        assert!(with(|c| c.lora_alpha = Some(0.0)).starts_with("--lora-alpha 0"));
        assert!(with(|c| c.caption_dropout = 1.5).starts_with("--caption-dropout 1.5"));
        assert!(
            with(|c| c.snr_gamma = Some(5.0)).starts_with("--snr-gamma 5: expected --loss sft")
        );
        assert!(with(|c| c.epochs = Some(0)).starts_with("--epochs 0"));
        assert!(with(|c| c.set_size = 0).starts_with("--set-size 0"));
        assert!(
            with(|c| c.loss = LossKind::named("set").unwrap())
                .starts_with("--batch 8: expected whole sets")
        );
    }
}
