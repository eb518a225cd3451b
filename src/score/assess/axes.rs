//! Metrics of the shares of axes' values, over neutral prompts.

use super::evidence::{Evidence, mean};
use crate::judge::scales::{JOINT, Scale};
use crate::prompts::caption_id;
use crate::score::bootstrap::{Estimate, Population as Resampled};
use crate::score::gallery::Kind;
use crate::score::measure::{Measure, Reading};
use crate::score::metrics::discrepancy::distance;
use crate::score::metrics::metric::{Axes, Metric, Shape};
use crate::score::population::{Population, Prompt};
use crate::score::scores::{AxisNumber, AxisNumbers, AxisScore, OverAxes, PromptAxis, Sided};

/// Tag of the resampled population of one prompt.
const TAG_ONE_PROMPT: u32 = 2;

/// Where every picture stands on an axis: as 1 at its most probable value, and as probabilities.
#[derive(Debug)]
pub(super) struct Standings<'a> {
    scale: &'a Scale,
    hard: Measure,
    soft: Measure,
}

impl Evidence<'_> {
    /// Every axis over all neutral prompts.
    pub fn axes(&self) -> Vec<AxisScore> {
        let scales = self.metrics.scales.iter();
        scales.map(|scale| self.axis(scale)).collect()
    }

    fn axis(&self, scale: &Scale) -> AxisScore {
        let standings = self.standings(scale, self.population.compared);
        let hard = &standings.hard;
        let neutral: Vec<&Prompt> = self.kind(Kind::Neutral).collect();
        let counting: Vec<&Prompt> = neutral
            .iter()
            .filter(|p| hard.counts(&Population::slot_numbers(p)))
            .copied()
            .collect();
        let population = self.resampled(neutral.iter().copied());
        let slots: Vec<u32> = population.whole().concat();
        AxisScore {
            axis: scale.name.clone(),
            values: scale.values.clone(),
            target: scale.target.clone(),
            prompts: counting.len(),
            prompts_left_out: neutral.len() - counting.len(),
            numbers: self.axis_numbers(&standings, &population, &counting),
            shares: self.sides(|side| shares(hard, side, &slots)),
        }
    }

    /// One number of all axes, of each metric that has such a number.
    pub fn over_axes(&self) -> OverAxes {
        let population = self.resampled(self.kind(Kind::Neutral));
        let scales = self.metrics.scales.iter();
        // A joint axis says again what its parts say.
        let single = scales.filter(|scale| !scale.name.contains(JOINT));
        let standings: Vec<Standings<'_>> = single
            .map(|scale| self.standings(scale, self.population.compared))
            .collect();
        let joined = self.metrics_of_axes().filter_map(|(metric, axes)| {
            let joined = axes.joined.as_ref()?.of;
            let read = |s: &Standings<'_>| s.hard.read_as(axes.of, &s.scale.target);
            let measures: Vec<Measure> = standings.iter().map(read).collect();
            let compared =
                Measure::estimate_joined(&measures, joined, &population, self.replicates);
            (!measures.is_empty()).then(|| (metric, compared.into()))
        });
        OverAxes(joined.collect())
    }

    fn metrics_of_axes(&self) -> impl Iterator<Item = (&'static Metric, &'static Axes)> {
        let list = self.metrics.list.iter();
        list.filter_map(|&metric| match &metric.shape {
            Shape::Axes(axes) => Some((metric, axes)),
            _ => None,
        })
    }

    /// Where every picture stands on an axis. With `paired`, a prompt counts only where both sides
    /// have pictures.
    pub(super) fn standings<'a>(&self, scale: &'a Scale, paired: bool) -> Standings<'a> {
        // Read as the headline until another metric reads it.
        let reading = || Reading::Shares {
            of: distance,
            target: scale.target.clone(),
        };
        let new = || self.measure(reading(), paired);
        let (mut hard, mut soft) = (new(), new());
        for (side, slot, shot) in self.places() {
            if let Some(standing) = self.standing(scale, shot) {
                let mut one_hot = vec![0.0; scale.values.len()];
                one_hot[standing.dominant] = 1.0;
                hard.set(side, slot, &one_hot);
                soft.set(side, slot, &standing.shares);
            }
        }
        Standings { scale, hard, soft }
    }

    /// An axis' metrics on a population; the floors are means over `prompts`.
    fn axis_numbers(
        &self,
        standings: &Standings<'_>,
        population: &Resampled,
        prompts: &[&Prompt],
    ) -> AxisNumbers {
        let Standings { scale, hard, soft } = standings;
        let numbers = self.metrics_of_axes().map(|(metric, axes)| {
            let estimate = |measure: &Measure| -> Sided<Estimate> {
                let measure = measure.read_as(axes.of, &scale.target);
                measure.estimate(population, self.replicates).into()
            };
            let floors = axes.floor.map(|floor| {
                let floor = |side: usize, prompt: &Prompt| {
                    let (_, count) = hard.mean(side, &Population::slot_numbers(prompt));
                    floor(&scale.target, u32::try_from(count).ok()?, self.seed)
                };
                self.sides(|side| mean(prompts.iter().filter_map(|p| floor(side, p))))
            });
            AxisNumber {
                metric,
                hard: estimate(hard),
                soft: estimate(soft),
                floor: floors,
            }
        });
        AxisNumbers(numbers.collect())
    }

    /// One axis of one prompt.
    pub(super) fn prompt_axis(&self, prompt: &Prompt, standings: &Standings<'_>) -> PromptAxis {
        // Addressed by the caption, so that a prompt's interval doesn't depend on the others.
        let mut population = self.resampled(std::iter::once(prompt));
        population.tag = TAG_ONE_PROMPT;
        population.seed = self.seed ^ u64::from(caption_id(&prompt.text));
        let slots = Population::slot_numbers(prompt);
        PromptAxis {
            axis: standings.scale.name.clone(),
            shares: self.sides(|side| shares(&standings.hard, side, &slots)),
            soft_shares: self.sides(|side| shares(&standings.soft, side, &slots)),
            numbers: self.axis_numbers(standings, &population, &[prompt]),
        }
    }
}

/// The mean numbers of a side's pictures in some slots, if there are any.
fn shares(measure: &Measure, side: usize, slots: &[u32]) -> Option<Vec<f64>> {
    let (shares, count) = measure.mean(side, slots);
    (count > 0).then_some(shares)
}
