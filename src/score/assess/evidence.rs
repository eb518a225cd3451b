//! What numbers are computed from, and the ways through it.

use super::qualities::Qualities;
use crate::base::LeftOut;
use crate::judge::chain::Verdict;
use crate::judge::reading::Standing;
use crate::judge::scales::Scale;
use crate::score::bootstrap::Population as Resampled;
use crate::score::choice::Metrics;
use crate::score::gallery::Kind;
use crate::score::look::{BOTH, Looks};
use crate::score::measure::{Measure, Reading, SIDES};
use crate::score::population::{Population, Prompt};
use crate::score::scores::{Counts, Sided};

/// Tag of the resampled population of many prompts.
const TAG_PROMPTS: u32 = 1;

/// The sides' names in `scores.json`.
pub const SIDE_NAMES: [&str; SIDES] = ["scored", "against"];

/// Everything that numbers are computed from.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The pictures and their places.
    pub population: &'a Population,
    /// What was seen of them.
    pub looks: &'a Looks,
    /// How good they are.
    pub qualities: &'a Qualities,
    /// What to compute.
    pub metrics: &'a Metrics,
    /// Resamples for an interval.
    pub replicates: u32,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Evidence<'_> {
    /// How many pictures of these prompts there are, and why some don't count.
    pub fn counts<'a>(&self, prompts: impl IntoIterator<Item = &'a Prompt>) -> Sided<Counts> {
        let prompts: Vec<&Prompt> = prompts.into_iter().collect();
        let side = |side: usize| {
            let mut counts = Counts::default();
            for shot in prompts.iter().flat_map(|p| self.shots(p, side)) {
                counts.files += 1;
                match &self.looks.shots[shot].verdict {
                    Verdict::Kept(_) => counts.kept += 1,
                    Verdict::Dropped(reason) => {
                        *counts.dropped.entry(reason.to_string()).or_default() += 1;
                    }
                }
            }
            counts
        };
        self.sides(|s| Some(side(s)))
    }

    /// The pictures of files that say nothing of who is drawn, by reason.
    pub fn left_out(&self) -> Sided<LeftOut> {
        let side = |side: usize| {
            let mut left = LeftOut::default();
            for (shot, look) in self.population.shots.iter().zip(&self.looks.shots) {
                if shot.side != side {
                    continue;
                }
                left.of += 1;
                let reason = match (&look.problem, &look.verdict) {
                    (Some(problem), _) => problem.to_string(),
                    (None, Verdict::Dropped(reason)) => reason.to_string(),
                    (None, Verdict::Kept(_)) => continue,
                };
                left.add(&reason, shot.path.display().to_string());
            }
            left
        };
        self.sides(|s| Some(side(s)))
    }

    /// The kinds of prompts there are.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        kinds.retain(|&kind| self.kind(kind).next().is_some());
        kinds
    }

    /// The prompts of a kind.
    pub fn kind(&self, kind: Kind) -> impl Iterator<Item = &Prompt> + Clone {
        let prompts = self.population.prompts.iter();
        prompts.filter(move |prompt| prompt.kind == kind)
    }

    pub(super) fn standing(&self, scale: &Scale, shot: usize) -> Option<Standing> {
        scale.read(self.looks.attributes(shot)?).ok()
    }

    pub(super) fn measure(&self, reading: Reading, paired: bool) -> Measure {
        Measure::new(reading, self.population.slots.len(), paired)
    }

    pub(super) fn resampled<'a>(&self, prompts: impl Iterator<Item = &'a Prompt>) -> Resampled {
        self.population.resampled(prompts, TAG_PROMPTS, self.seed)
    }

    /// Side, slot and index of every picture.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let shots = self.population.shots.iter().enumerate();
        shots.map(|(index, shot)| (shot.side, shot.slot, index))
    }

    pub(super) fn shots(&self, prompt: &Prompt, side: usize) -> impl Iterator<Item = usize> {
        let slots = prompt.slots.iter();
        slots.filter_map(move |&slot| self.population.slots[slot].shots[side])
    }

    pub(super) fn sides<T>(&self, of: impl Fn(usize) -> Option<T>) -> Sided<T> {
        let there = |side: usize| side == 0 || self.population.compared;
        Sided::new(BOTH.map(|side| there(side).then(|| of(side)).flatten()))
    }
}

/// The mean; nothing of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (count > 0).then(|| sum / count as f64)
}
