//! Metrics of the shares of axes' values, over neutral prompts.

use super::evidence::{Evidence, mean};
use crate::judge::scales::{JOINT, Scale};
use crate::prompts::caption_id;
use crate::score::bootstrap::{Estimate, Population as Resampled};
use crate::score::gallery::Kind;
use crate::score::measure::{Measure, Reading};
use crate::score::metrics::discrepancy::distance;
use crate::score::metrics::metric::{Axes, Metric, Over, Shape};
use crate::score::population::{Population, Prompt};
use crate::score::scores::{
    AxisNumber, AxisNumbers, AxisScore, Bounded, OverAxes, PromptAxis, Sided,
};

/// Tag of the resampled population of one prompt.
const TAG_ONE_PROMPT: u32 = 2;

/// Where every picture stands on an axis: as 1 at its most probable value, and as probabilities.
#[derive(Debug)]
pub(super) struct Standings<'a> {
    scale: &'a Scale,
    hard: Measure,
    soft: Measure,
    /// Whether a prompt counts only where both sides have pictures.
    paired: bool,
}

/// What numbers of an axis are of.
struct Part<'a> {
    population: &'a Resampled,
    /// The prompts that count.
    counting: &'a [&'a Prompt],
    /// Those too whose pictures were all dropped.
    all: &'a [&'a Prompt],
    /// Whether it is a prompt by itself, of which nothing is pooled.
    alone: bool,
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
            numbers: self.axis_numbers(
                &standings,
                &Part {
                    population: &population,
                    counting: &counting,
                    all: &neutral,
                    alone: false,
                },
            ),
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
            let read = |s: &Standings<'_>| s.hard.read_as(reading(axes, s.scale));
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
        // Read as the headline until a metric reads it.
        let headline = || Reading::Shares {
            of: distance,
            target: scale.target.clone(),
        };
        let new = || self.measure(headline(), paired);
        let (mut hard, mut soft) = (new(), new());
        for (side, slot, shot) in self.places() {
            if let Some(standing) = self.standing(scale, shot) {
                let mut one_hot = vec![0.0; scale.values.len()];
                one_hot[standing.dominant] = 1.0;
                hard.set(side, slot, &one_hot);
                soft.set(side, slot, &standing.shares);
            }
        }
        Standings {
            scale,
            hard,
            soft,
            paired,
        }
    }

    /// An axis' metrics on a part of the pictures.
    fn axis_numbers(&self, standings: &Standings<'_>, part: &Part<'_>) -> AxisNumbers {
        let Standings {
            scale, hard, soft, ..
        } = standings;
        let metrics = self.metrics_of_axes();
        let metrics = metrics.filter(|(_, axes)| !part.alone || axes.over == Over::Prompts);
        let numbers = metrics.map(|(metric, axes)| {
            let estimate = |measure: &Measure| -> Sided<Estimate> {
                let measure = measure.read_as(reading(axes, scale));
                measure.estimate(part.population, self.replicates).into()
            };
            AxisNumber {
                metric,
                hard: estimate(hard),
                soft: estimate(soft),
                floor: self.floor(axes, standings, part.counting),
                bounds: self.bounds(axes, standings, part.all),
            }
        });
        AxisNumbers(numbers.collect())
    }

    /// What a population that meets the target would have.
    fn floor(
        &self,
        axes: &Axes,
        standings: &Standings<'_>,
        prompts: &[&Prompt],
    ) -> Option<Sided<f64>> {
        let floor = axes.floor?;
        Some(self.sides(|side| {
            let counts = prompts.iter().map(|p| standings.kept(side, &[p]).1);
            let counts: Vec<usize> = match axes.over {
                Over::Prompts => counts.collect(),
                Over::Pool => vec![counts.sum()],
            };
            let floor = |count: usize| {
                let count = u32::try_from(count).ok()?;
                floor(&standings.scale.target, count, self.seed)
            };
            mean(counts.into_iter().filter_map(floor))
        }))
    }

    /// What a metric could be if the pictures that were dropped counted. They may all be of one
    /// prompt, which then counts too.
    fn bounds(
        &self,
        axes: &Axes,
        standings: &Standings<'_>,
        prompts: &[&Prompt],
    ) -> Option<Sided<Bounded>> {
        let bounds = axes.bounds?;
        let files = |prompt: &Prompt, side: usize| self.shots(prompt, side).count();
        let counts =
            |prompt: &&&Prompt| !standings.paired || (files(prompt, 0) > 0 && files(prompt, 1) > 0);
        let prompts: Vec<&Prompt> = prompts.iter().filter(counts).copied().collect();
        Some(self.sides(|side| {
            let parts: Vec<&[&Prompt]> = match axes.over {
                Over::Prompts => prompts.chunks(1).collect(),
                Over::Pool => vec![&prompts],
            };
            let each = parts.into_iter().filter_map(|part| {
                let (counts, kept) = standings.kept(side, part);
                let all: usize = part.iter().map(|prompt| files(prompt, side)).sum();
                let dropped = all - kept;
                Some((bounds(&standings.scale.target, &counts, dropped)?, dropped))
            });
            let each: Vec<([f64; 2], usize)> = each.collect();
            let end = |end: usize| mean(each.iter().map(|(bounds, _)| bounds[end]));
            Some(Bounded {
                low: end(0)?,
                high: end(1)?,
                dropped: each.iter().map(|(_, dropped)| dropped).sum(),
            })
        }))
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
            numbers: self.axis_numbers(
                standings,
                &Part {
                    population: &population,
                    counting: &[prompt],
                    all: &[prompt],
                    alone: true,
                },
            ),
        }
    }
}

impl Standings<'_> {
    /// How many of a side's pictures of some prompts show each value, and how many count.
    fn kept(&self, side: usize, prompts: &[&Prompt]) -> (Vec<f64>, usize) {
        let slots: Vec<u32> = prompts
            .iter()
            .flat_map(|prompt| Population::slot_numbers(prompt))
            .collect();
        self.hard.sum(side, &slots)
    }
}

/// How a metric reads an axis.
fn reading(axes: &Axes, scale: &Scale) -> Reading {
    let (of, target) = (axes.of, scale.target.clone());
    match axes.over {
        Over::Prompts => Reading::Shares { of, target },
        Over::Pool => Reading::Pooled { of, target },
    }
}

/// The mean numbers of a side's pictures in some slots, if there are any.
fn shares(measure: &Measure, side: usize, slots: &[u32]) -> Option<Vec<f64>> {
    let (shares, count) = measure.mean(side, slots);
    (count > 0).then_some(shares)
}
