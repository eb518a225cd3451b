//! Training on the model's own pictures (`--online`).
//!
//! The steps of a run are cut into rounds. A round draws pictures of neutral captions with the LoRA as it stands
//! (its average, if one is kept), asks the classifier chain what they show, and trains on them: each picture
//! has an advantage ([`advantages`]) by how much of what it shows its caption's pictures lack. Pairs of pictures say
//! which of two is better, whatever the population; here nothing is left to learn once a population meets its
//! target. The loss is [`super::losses::nft`]'s.
//!
//! Everything of a round follows from the factors that it draws with, which checkpoints hold: a run that goes on
//! in the middle of a round draws the same pictures again.

use serde::{Deserialize, Serialize};

use super::Result;
use super::order::Order;
use super::rules::Rule;
use super::validation::{Inputs, Record};
use crate::base::Values;
use crate::diffusion::pipeline::Noised;
use crate::lora::Fitted;

/// What `--online` can be.
pub const ROUNDS: Values<u32> = Values::within("a number of rounds", 1, 4096);
/// What `--online-pictures` can be: with one there is no population beside a picture.
pub const PICTURES: Values<u32> = Values::within("a number of pictures", 2, 4096);
/// What `--online-captions` can be.
pub const CAPTIONS: Values<u32> = Values::from("a number of captions", 1);

/// Pictures that are noised alike, at one time step: neighbours in a round, so mostly of one caption. What
/// advantages of both signs have in common then cancels within a step, as it does between the sides of a pair.
pub const GROUP: usize = 4;

/// What the numbers of such a run depend on besides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Online {
    /// Rounds that the steps are cut into.
    pub rounds: u32,
    /// Pictures of a caption in a round.
    pub pictures: u32,
    /// Captions of a round, in turn; none for all.
    pub captions: Option<u32>,
    /// See [`super::losses::nft`].
    pub strength: f64,
}

impl Online {
    /// What options must be, in a run of so many steps.
    pub(super) fn rules(&self, steps: u32) -> [Rule; 3] {
        [
            Rule::values("online", self.rounds, ROUNDS),
            Rule::values("online-pictures", self.pictures, PICTURES),
            Rule::beside(
                "steps",
                steps,
                steps.is_multiple_of(self.rounds.max(1)),
                format!("a multiple of --online, {}", self.rounds),
            ),
        ]
    }

    /// The round that the step after `done` updates of `steps` is in.
    pub fn round(&self, steps: u32, done: u32) -> Round {
        let length = steps / self.rounds.max(1);
        let number = done / length.max(1);
        Round {
            number,
            first: number * length,
            length,
        }
    }
}

/// A round of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 0.
    pub number: u32,
    /// Updates that are done when it begins.
    pub first: u32,
    /// Updates in it.
    pub length: u32,
}

impl Round {
    /// Which of `pictures` the step after `done` updates takes, `batch` of them: all whole groups once, in an order of
    /// their own for each pass, before any again.
    pub(super) fn visits(&self, seed: u64, done: u32, batch: usize, pictures: usize) -> Vec<usize> {
        let set = GROUP.min(pictures);
        let order = Order {
            pairs: pictures - pictures % set,
            set,
            shuffled: Some(seed),
        };
        let passes = (self.length as usize * batch).div_ceil(order.pairs);
        let before = self.number as usize * passes * order.pairs;
        order.visits(before + (done - self.first) as usize * batch, batch)
    }
}

/// A picture of a round in which the chain saw somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The id of its caption.
    pub caption_id: u32,
    /// Its number among those of its caption, in its noise's address.
    pub image_id: u32,
    /// Its latents, [C, h, w], scaled as the UNet sees them.
    pub latents: Vec<f32>,
    /// The probability of each value of each axis.
    pub shares: Vec<Vec<f64>>,
}

/// What a round has drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The pictures that count, caption by caption.
    pub pictures: Vec<Drawn>,
    /// The share that each value of each axis should have.
    pub targets: Vec<Vec<f64>>,
    /// What all of them show.
    pub record: Record,
}

/// Whoever draws.
pub trait Artist: std::fmt::Debug {
    /// What its pictures depend on, for the run's manifest.
    fn facts(&self) -> &serde_json::Value;

    /// Pictures of a round.
    fn pictures(&self) -> usize;

    /// Draws a round with these factors; nothing if the run was stopped.
    ///
    /// # Errors
    /// A network that fails, a picture that is none.
    fn draw(&mut self, round: Round, lora: Fitted) -> Result<Option<Rollout>>;

    /// What the factors of the last round predict, [n, C, h, w].
    ///
    /// # Errors
    /// A network that fails.
    fn predict(&mut self, noised: &Noised<'_>) -> Result<Vec<f32>>;
}

/// The wish for a run of rounds.
pub trait Studio: std::fmt::Debug + Send + Sync {
    /// Checks what was asked for against what there is, and loads what it needs.
    ///
    /// # Errors
    /// A bundle without the parts, a chain that doesn't measure the axes.
    fn open(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Artist>>;
}

/// The advantage of each picture, −1 to 1, in their order; those of a caption stand together.
///
/// ```text
/// s(v) = (t(v) + Σ_j≠i p_j(v)) / n      of the n pictures of a caption, all but i
/// A_i = mean over axes of Σ_v (p_i(v) − s(v)) ln (t(v) / s(v))
/// ```
///
/// The reward of a value is the logarithm of what its share should be over what it is (Fair-GRPO's,
/// arXiv:2605.24687), here with the classifier's probabilities p and without the picture itself; its mean over the
/// others is taken off. One picture's worth of the target t among them keeps the logarithm finite, and it ends at
/// ± ln n. Where the shares are the target's, every advantage is 0.
pub fn advantages(pictures: &[Drawn], targets: &[Vec<f64>]) -> Vec<f32> {
    let of_caption = |own: &[Drawn]| -> Vec<f32> {
        let by_axis = targets.iter().enumerate();
        let by_axis: Vec<Vec<f64>> = by_axis
            .map(|(axis, target)| {
                let shares: Vec<&[f64]> = own.iter().map(|p| p.shares[axis].as_slice()).collect();
                on_axis(&shares, target)
            })
            .collect();
        let axes = by_axis.len() as f64;
        let mean = |i: usize| by_axis.iter().map(|axis| axis[i]).sum::<f64>() / axes;
        (0..own.len())
            .map(|i| mean(i).clamp(-1.0, 1.0) as f32)
            .collect()
    };
    let captions = pictures.chunk_by(|a, b| a.caption_id == b.caption_id);
    captions.flat_map(of_caption).collect()
}

/// Those of a caption's pictures on one axis.
fn on_axis(pictures: &[&[f64]], target: &[f64]) -> Vec<f64> {
    let n = pictures.len() as f64;
    let total = |v: usize| pictures.iter().map(|p| p[v]).sum::<f64>();
    let totals: Vec<f64> = (0..target.len()).map(total).collect();
    let advantage = |own: &&[f64]| -> f64 {
        let value = |v: usize| {
            let others = (target[v] + totals[v] - own[v]) / n;
            // What nobody wants has the least reward, be it there or not.
            let short = match target[v] > 0.0 {
                true => (target[v] / others).ln().clamp(-n.ln(), n.ln()),
                false => -n.ln(),
            };
            (own[v] - others) * short
        };
        (0..target.len()).map(value).sum()
    };
    pictures.iter().map(advantage).collect()
}

/// Moves a sample's target: t becomes v_old + pull (t − v_old), with the pull a / b of [`super::losses::nft`].
pub fn aim(target: &mut [f32], old: &[f32], pull: f32) {
    for (t, old) in target.iter_mut().zip(old) {
        *t = old + pull * (*t - old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(caption_id: u32, share: f64) -> Drawn {
        Drawn {
            caption_id,
            image_id: 0,
            latents: Vec::new(),
            shares: vec![vec![share, 1.0 - share]],
        }
    }

    #[test]
    fn what_a_population_lacks_is_worth_more() {
        let even = [vec![0.5, 0.5]];
        // Three of one kind, one of the other; a caption that is at its target; one with a single kind.
        let pictures: Vec<Drawn> = [1.0, 1.0, 1.0, 0.0]
            .map(|p| drawn(1, p))
            .into_iter()
            .chain([1.0, 0.0, 0.5, 0.5].map(|p| drawn(2, p)))
            .chain([1.0; 3].map(|p| drawn(3, p)))
            .collect();
        let found = advantages(&pictures, &even);
        // By hand: the rare one is held against (.5 + 3) / 4 of the others.
        let rare = 0.875 * (0.5f64 / 0.125).ln() - 0.875 * (0.5f64 / 0.875).ln();
        assert_eq!(f64::from(found[3]), f64::from(rare.min(1.0) as f32));
        // A common one against (.5 + 2) / 4 and (.5 + 1) / 4.
        let common = 0.375 * (0.5f64 / 0.625).ln() - 0.375 * (0.5f64 / 0.375).ln();
        assert!((f64::from(found[0]) - common).abs() < 1e-7 && found[0] < 0.0);
        assert_eq!(found[0], found[2]);
        assert!(found[6..8].iter().all(|a| *a == 0.0), "at the target");
        assert!(
            found[4] > 0.0 && found[5] > 0.0,
            "an even caption: either is short without itself"
        );
        assert!(found[8] < 0.0 && found[8] == found[10], "more of the same");
    }

    #[test]
    fn targets_that_are_not_even_are_met_where_they_are() {
        let target = [vec![0.8, 0.2]];
        let sum = |shares: &[f64]| {
            let pictures: Vec<Drawn> = shares.iter().map(|p| drawn(1, *p)).collect();
            advantages(&pictures, &target)
        };
        let even = sum(&[1.0, 1.0, 0.0, 0.0]);
        assert!(
            even[0] > 0.0 && even[3] < 0.0,
            "more of the first is wanted"
        );
        // A value that nobody wants.
        let none = [vec![1.0, 0.0]];
        let pictures = [drawn(1, 1.0), drawn(1, 0.0)];
        let found = advantages(&pictures, &none);
        assert!(found.iter().all(|a| a.is_finite()) && found[1] < 0.0);
    }

    /// The loss and its gradient by v of a number are those of the two errors, as the authors write it.
    #[test]
    fn moved_targets_give_the_loss_of_both_policies() {
        let both = |v: f64, old: f64, t: f64, a: f64, b: f64| {
            let (plus, minus) = ((1.0 - b) * old + b * v, (1.0 + b) * old - b * v);
            let r = (1.0 + a) / 2.0;
            let loss = r * (plus - t).powi(2) + (1.0 - r) * (minus - t).powi(2);
            let by_v = 2.0 * b * (r * (plus - t) - (1.0 - r) * (minus - t));
            (loss, by_v)
        };
        for (v, old, t, a, b) in [
            (0.3, 0.1, -0.7, 0.4, 1.0),
            (-1.3, -0.9, 0.2, -1.0, 0.1),
            (0.5, 0.5, 1.5, 0.0, 2.0),
        ] {
            let mut moved = [t as f32];
            aim(&mut moved, &[old as f32], (a / b) as f32);
            let error = v - f64::from(moved[0]);
            let rest = (1.0 - a * a) * (old - t) * (old - t);
            let (loss, by_v) = both(v, old, t, a, b);
            assert!((b * b * error * error + rest - loss).abs() < 1e-6);
            assert!((2.0 * b * b * error - by_v).abs() < 1e-5);
        }
    }

    #[test]
    fn a_round_visits_all_before_any_again() {
        let round = Round {
            number: 2,
            first: 20,
            length: 10,
        };
        let mut seen: Vec<usize> = (20..25)
            .flat_map(|done| round.visits(3, done, 4, 20))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        let other = Round {
            number: 3,
            first: 30,
            ..round
        };
        assert_ne!(round.visits(3, 20, 20, 20), other.visits(3, 30, 20, 20));
    }
}
