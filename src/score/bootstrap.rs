//! Bootstrap intervals on two levels: prompts are drawn with replacement, and within each drawn
//! prompt its pictures.
//!
//! Prompts stand for all prompts one might have written, pictures for all one might have drawn, so
//! both add to the uncertainty of a mean over prompts. The two sides of a comparison are drawn
//! together: the same prompts, and of each prompt the same *slots*. A slot is one place in the
//! population (a seed and a number); it holds a picture of each side, or of one where the other
//! has none. Slots of both sides, of the first alone and of the second alone are drawn apart, so
//! that a resample has as many pictures of each side as the sample.
//!
//! Which slots a resample holds is a function of (seed, population, replicate, place): the threads
//! that compute it don't matter.

use rayon::prelude::*;
use serde::Serialize;

use crate::random::{Purpose, Stream};

/// Shares of the resamples that lie below the ends of a 95% interval.
const ENDS: [f64; 2] = [0.025, 0.975];

/// Resamples of which so many have no value give no interval.
const LEAST_DEFINED: f64 = 0.5;

/// The slots of one prompt, apart by which sides have a picture there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strata {
    /// Slots with a picture of both sides, of the first side only, of the second side only.
    pub slots: [Vec<u32>; 3],
}

impl Strata {
    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The slots of a (re)sample, prompt by prompt.
pub type Sample = Vec<Vec<u32>>;

/// A population that can be resampled.
#[derive(Debug, Clone)]
pub struct Population {
    /// Its prompts.
    pub prompts: Vec<Strata>,
    /// Addresses its randomness: two populations with different tags are drawn independently.
    pub tag: u32,
    /// Seed of the randomness.
    pub seed: u64,
}

/// What tells the draw of prompts from those of pictures.
const PROMPTS: u32 = 0;

impl Population {
    /// The sample itself.
    pub fn whole(&self) -> Sample {
        let slots = |strata: &Strata| strata.slots.iter().flatten().copied().collect();
        self.prompts.iter().map(slots).collect()
    }

    /// A resample.
    pub fn draw(&self, replicate: u32) -> Sample {
        let count = u32::try_from(self.prompts.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Vec::new();
        }
        let mut prompts = self.stream(PROMPTS, replicate);
        (0..count)
            .map(|place| {
                // A single prompt is no sample of prompts: only its pictures vary.
                let chosen = if count == 1 { 0 } else { prompts.below(count) };
                self.draw_pictures(chosen, place, replicate)
            })
            .collect()
    }

    fn draw_pictures(&self, prompt: u32, place: u32, replicate: u32) -> Vec<u32> {
        let strata = &self.prompts[prompt as usize];
        let mut pictures = self.stream(place + 1, replicate);
        let mut drawn = Vec::with_capacity(strata.len());
        for slots in &strata.slots {
            let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            drawn.extend((0..count).map(|_| slots[pictures.below(count) as usize]));
        }
        drawn
    }

    fn stream(&self, place: u32, replicate: u32) -> Stream {
        Stream::new(self.seed, Purpose::Bootstrap, place, replicate, self.tag)
    }
}

/// A number and, where it has one, its 95% interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number, of the sample itself.
    pub value: f64,
    /// Lower end of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

impl Estimate {
    /// A number without an interval.
    pub fn exact(value: f64) -> Self {
        Self {
            value,
            low: None,
            high: None,
        }
    }

    /// As `0.412 [0.371, 0.448]`.
    pub fn text(&self) -> String {
        match self.interval() {
            None => format!("{:.3}", self.value),
            Some((low, high)) => format!("{:.3} [{low:.3}, {high:.3}]", self.value),
        }
    }

    /// The interval, if there is one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }
}

/// Estimates each of `statistic`'s numbers on `population` with percentile intervals from
/// `replicates` resamples. A number that is not finite has no value; resamples without one don't
/// count, and with fewer than half left there is no interval.
pub fn estimate<const N: usize>(
    population: &Population,
    replicates: u32,
    statistic: impl Fn(&Sample) -> [f64; N] + Sync,
) -> [Option<Estimate>; N] {
    let values = statistic(&population.whole());
    let resampled: Vec<[f64; N]> = (0..replicates)
        .into_par_iter()
        .map(|replicate| statistic(&population.draw(replicate)))
        .collect();
    let mut estimates = [None; N];
    for (i, estimate) in estimates.iter_mut().enumerate() {
        if values[i].is_finite() {
            let column: Vec<f64> = resampled.iter().map(|row| row[i]).collect();
            *estimate = Some(with_interval(values[i], column));
        }
    }
    estimates
}

fn with_interval(value: f64, mut resampled: Vec<f64>) -> Estimate {
    let all = resampled.len();
    resampled.retain(|v| v.is_finite());
    if resampled.is_empty() || (resampled.len() as f64) < LEAST_DEFINED * all as f64 {
        return Estimate::exact(value);
    }
    resampled.sort_by(f64::total_cmp);
    let [low, high] = ENDS.map(|q| quantile(&resampled, q));
    Estimate {
        value,
        low: Some(low),
        high: Some(high),
    }
}

/// The `q`-quantile of sorted numbers, interpolated linearly as numpy's default does.
///
/// # Panics
/// When there are no numbers.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = place - place.floor();
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strata(both: std::ops::Range<u32>, first: std::ops::Range<u32>) -> Strata {
        Strata {
            slots: [both.collect(), first.collect(), Vec::new()],
        }
    }

    fn of(prompts: Vec<Strata>) -> Population {
        Population {
            prompts,
            tag: 1,
            seed: 3,
        }
    }

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (q, expected) in [(0.0, 1.0), (1.0, 8.0), (0.5, 3.0), (0.25, 1.75), (0.9, 6.8)] {
            assert!((quantile(&values, q) - expected).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(&[5.0], 0.3), 5.0);
    }

    #[test]
    fn a_resample_keeps_the_sizes_and_stays_in_its_strata() {
        let population = of(vec![strata(0..4, 4..6), strata(6..9, 9..9)]);
        assert_eq!(population.whole(), [vec![0, 1, 2, 3, 4, 5], vec![6, 7, 8]]);
        let mut seen = std::collections::BTreeSet::<u32>::new();
        for replicate in 0..200 {
            let sample = population.draw(replicate);
            assert_eq!(sample.len(), 2);
            for slots in &sample {
                match slots.len() {
                    6 => {
                        assert!(slots[..4].iter().all(|s| (0..4).contains(s)));
                        assert!(slots[4..].iter().all(|s| (4..6).contains(s)));
                    }
                    3 => assert!(slots.iter().all(|s| (6..9).contains(s))),
                    other => panic!("{other} slots"),
                }
                seen.extend(slots);
            }
            assert_eq!(sample, population.draw(replicate));
        }
        assert_eq!(seen.len(), 9);
        assert!(of(Vec::new()).draw(0).is_empty());
    }

    /// Exact check: the mean of two pictures 0 and 1 is 0, ½ or 1 with ¼, ½, ¼.
    #[test]
    fn resamples_have_the_right_distribution() {
        let population = of(vec![strata(0..2, 2..2)]);
        let mut counts = [0u32; 3];
        for replicate in 0..4000 {
            counts[population.draw(replicate)[0].iter().sum::<u32>() as usize] += 1;
        }
        // Chi-square with 2 degrees of freedom: 13.8 is the 99.9% point.
        let expected = [1000.0, 2000.0, 1000.0];
        let terms = counts.iter().zip(expected);
        let chi: f64 = terms.map(|(&c, e)| (f64::from(c) - e).powi(2) / e).sum();
        assert!(chi < 13.8, "{counts:?}");
    }

    #[test]
    fn equal_sides_differ_by_nothing_in_every_resample() {
        let population = of(vec![strata(0..5, 5..5), strata(5..9, 9..9)]);
        let mean = |sample: &Sample| {
            let all: Vec<f64> = sample.iter().flatten().map(|&s| f64::from(s)).collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let [level, difference, missing] = estimate(&population, 300, |sample| {
            [mean(sample), mean(sample) - mean(sample), f64::NAN]
        });
        let (low, high) = level.unwrap().interval().unwrap();
        assert!(low < 4.0 && high > 4.0);
        assert_eq!(difference.unwrap().interval(), Some((0.0, 0.0)));
        assert_eq!(missing, None);
    }

    #[test]
    fn few_defined_resamples_give_no_interval() {
        let values = |nan: usize| {
            let mut v = vec![1.0; 10 - nan];
            v.resize(10, f64::NAN);
            with_interval(1.0, v)
        };
        assert_eq!(values(5).interval(), Some((1.0, 1.0)));
        assert_eq!(values(6).interval(), None);
    }
}
