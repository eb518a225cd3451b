//! One way to compute every number of the report, so that each gets its interval and its paired
//! difference from the same resamples.
//!
//! A measure gives each picture a few numbers (its axis values as 0 and 1, its agreement with the
//! caption …) or nothing, if the picture was dropped. It is read in one of three ways: as the mean
//! over pictures, or as a function of means and a target: of each prompt's, averaged over prompts,
//! or of those over all prompts' pictures.

use super::bootstrap::{Estimate, Population, Sample, estimate};

/// The two sides of a comparison: what is scored, and what it is held against.
pub const SIDES: usize = 2;

/// A function of a prompt's shares (the first argument) and the target's.
pub type OfShares = fn(&[f64], &[f64]) -> f64;

/// What is made of the pictures' numbers.
#[derive(Debug, Clone)]
pub enum Reading {
    /// The mean of one number over all pictures.
    Mean,
    /// A function of a prompt's mean numbers and the target, averaged over prompts.
    Shares {
        /// The function.
        of: OfShares,
        /// The target.
        target: Vec<f64>,
    },
    /// A function of the mean numbers of all prompts' pictures and the target.
    Pooled {
        /// The function.
        of: OfShares,
        /// The target.
        target: Vec<f64>,
    },
}

/// Numbers of pictures and how to read them.
#[derive(Debug, Clone)]
pub struct Measure {
    reading: Reading,
    width: usize,
    /// By side: `width` numbers for each slot, not numbers where there are none.
    values: [Vec<f64>; SIDES],
    /// Whether a prompt counts only where both sides have pictures.
    paired: bool,
}

/// A measure on each side and the difference: scored minus against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// By side.
    pub sides: [Option<Estimate>; SIDES],
    /// First side minus second.
    pub difference: Option<Estimate>,
}

impl Measure {
    /// A measure over `slots` slots of which none has numbers yet.
    ///
    /// With `paired`, a prompt counts only where both sides have pictures.
    pub fn new(reading: Reading, slots: usize, paired: bool) -> Self {
        let width = match &reading {
            Reading::Mean => 1,
            Reading::Shares { target, .. } | Reading::Pooled { target, .. } => target.len(),
        };
        Self {
            reading,
            width,
            values: [(); SIDES].map(|()| vec![f64::NAN; slots * width]),
            paired,
        }
    }

    /// The same numbers, read in another way of the same width.
    #[must_use]
    pub fn read_as(&self, reading: Reading) -> Self {
        Self {
            reading,
            ..self.clone()
        }
    }

    /// Sets the numbers of the picture of a side in a slot.
    pub fn set(&mut self, side: usize, slot: usize, numbers: &[f64]) {
        let start = slot * self.width;
        self.values[side][start..start + self.width].copy_from_slice(numbers);
    }

    /// Estimates the measure on a population.
    pub fn estimate(&self, population: &Population, replicates: u32) -> Compared {
        compared(population, replicates, |sample| self.evaluate(sample))
    }

    /// Estimates one number of several measures on a population, side by side.
    pub fn estimate_joined(
        measures: &[Self],
        joined: fn(&[f64]) -> f64,
        population: &Population,
        replicates: u32,
    ) -> Compared {
        compared(population, replicates, |sample| {
            let values: Vec<_> = measures.iter().map(|m| m.evaluate(sample)).collect();
            [0, 1].map(|side| {
                let of_side: Vec<f64> = values.iter().map(|sides| sides[side]).collect();
                joined(&of_side)
            })
        })
    }

    /// The measure of a sample, by side; not a number where no picture counts.
    pub fn evaluate(&self, sample: &Sample) -> [f64; SIDES] {
        match &self.reading {
            Reading::Mean => [0, 1].map(|side| {
                let means = sample.iter().map(|slots| self.sum(side, slots));
                let (sum, count) =
                    means.fold((0.0, 0), |(sum, count), (s, n)| (sum + s[0], count + n));
                sum / count as f64
            }),
            Reading::Shares { of, target } => self.mean_of_shares(sample, *of, target),
            Reading::Pooled { of, target } => self.of_pooled_shares(sample, *of, target),
        }
    }

    /// The mean of a side's numbers over the pictures of a prompt, and how many there are.
    pub fn mean(&self, side: usize, slots: &[u32]) -> (Vec<f64>, usize) {
        let (mut sums, count) = self.sum(side, slots);
        sums.iter_mut().for_each(|s| *s /= count as f64);
        (sums, count)
    }

    /// Whether a prompt with these slots counts.
    pub fn counts(&self, slots: &[u32]) -> bool {
        let has = |side: usize| slots.iter().any(|&s| self.at(side, s).is_some());
        match self.paired {
            true => has(0) && has(1),
            false => has(0) || has(1),
        }
    }

    fn mean_of_shares(&self, sample: &Sample, of: OfShares, target: &[f64]) -> [f64; SIDES] {
        let (mut sums, mut counts) = ([0.0; SIDES], [0usize; SIDES]);
        for slots in sample {
            let means = [self.mean(0, slots), self.mean(1, slots)];
            if self.paired && means.iter().any(|(_, n)| *n == 0) {
                continue;
            }
            for (side, (mean, count)) in means.iter().enumerate() {
                if *count > 0 {
                    sums[side] += of(mean, target);
                    counts[side] += 1;
                }
            }
        }
        [0, 1].map(|side| sums[side] / counts[side] as f64)
    }

    /// Pooled are the same prompts as are averaged over.
    fn of_pooled_shares(&self, sample: &Sample, of: OfShares, target: &[f64]) -> [f64; SIDES] {
        let mut sums = [(); SIDES].map(|()| vec![0.0; self.width]);
        let mut counts = [0; SIDES];
        for slots in sample {
            let parts = [self.sum(0, slots), self.sum(1, slots)];
            if self.paired && parts.iter().any(|(_, n)| *n == 0) {
                continue;
            }
            for (side, (sum, count)) in parts.iter().enumerate() {
                sums[side].iter_mut().zip(sum).for_each(|(a, b)| *a += b);
                counts[side] += count;
            }
        }
        [0, 1].map(|side| {
            let shares: Vec<f64> = sums[side].iter().map(|s| s / counts[side] as f64).collect();
            match counts[side] {
                0 => f64::NAN,
                _ => of(&shares, target),
            }
        })
    }

    /// The sum of a side's numbers over the pictures of a prompt, and how many there are.
    pub fn sum(&self, side: usize, slots: &[u32]) -> (Vec<f64>, usize) {
        let mut sums = vec![0.0; self.width];
        let mut count = 0;
        for numbers in slots.iter().filter_map(|&slot| self.at(side, slot)) {
            sums.iter_mut().zip(numbers).for_each(|(s, n)| *s += n);
            count += 1;
        }
        (sums, count)
    }

    fn at(&self, side: usize, slot: u32) -> Option<&[f64]> {
        let start = slot as usize * self.width;
        let numbers = &self.values[side][start..start + self.width];
        (!numbers[0].is_nan()).then_some(numbers)
    }
}

/// Estimates a number of each side, and the first minus the second.
fn compared(
    population: &Population,
    replicates: u32,
    sides: impl Fn(&Sample) -> [f64; SIDES] + Sync,
) -> Compared {
    let [first, second, difference] = estimate(population, replicates, |sample| {
        let [first, second] = sides(sample);
        [first, second, first - second]
    });
    Compared {
        sides: [first, second],
        difference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::bootstrap::Strata;

    fn distance(shares: &[f64], target: &[f64]) -> f64 {
        let squares = shares.iter().zip(target).map(|(s, t)| (s - t).powi(2));
        squares.sum::<f64>().sqrt()
    }

    fn population(prompts: &[&[u32]]) -> Population {
        let strata = |slots: &&[u32]| Strata {
            slots: [slots.to_vec(), Vec::new(), Vec::new()],
        };
        Population {
            prompts: prompts.iter().map(strata).collect(),
            tag: 0,
            seed: 0,
        }
    }

    #[test]
    fn a_mean_is_over_pictures_and_passes_over_those_without_numbers() {
        let mut measure = Measure::new(Reading::Mean, 3, false);
        measure.set(0, 0, &[1.0]);
        measure.set(0, 2, &[4.0]);
        let compared = measure.estimate(&population(&[&[0, 1], &[2]]), 50);
        assert_eq!(compared.sides[0].map(|e| e.value), Some(2.5));
        assert_eq!(compared.sides[1], None);
        assert_eq!(compared.difference, None);
    }

    #[test]
    fn a_distance_is_a_mean_over_prompts_that_both_sides_have() {
        let reading = Reading::Shares {
            of: distance,
            target: vec![0.5, 0.5],
        };
        let mut measure = Measure::new(reading, 4, true);
        let (female, male) = ([1.0, 0.0], [0.0, 1.0]);
        for (side, slot, value) in [
            (0, 0, female),
            (0, 1, male),
            (1, 0, male),
            (1, 1, male),
            // The second prompt has pictures of one side only.
            (0, 2, male),
            (0, 3, male),
        ] {
            measure.set(side, slot, &value);
        }
        let prompts: [&[u32]; 2] = [&[0, 1], &[2, 3]];
        let compared = measure.estimate(&population(&prompts), 0);
        assert_eq!(compared.sides[0].map(|e| e.value), Some(0.0));
        assert_eq!(compared.sides[1].map(|e| e.value), Some(0.5f64.sqrt()));
        assert_eq!(compared.difference.map(|e| e.value), Some(-(0.5f64.sqrt())));
        assert_eq!(prompts.map(|p| measure.counts(p)), [true, false]);
        assert_eq!(measure.mean(0, prompts[0]), (vec![0.5, 0.5], 2));
    }

    #[test]
    fn pooled_prompts_are_one_population() {
        let target = vec![0.5, 0.5];
        let reading = Reading::Pooled {
            of: distance,
            target: target.clone(),
        };
        let mut measure = Measure::new(reading, 4, true);
        // Three of one value beside one of the other on one side, one each on the other; the second
        // prompt's last picture was dropped.
        for (slot, first) in [1.0, 1.0, 1.0, 0.0].into_iter().enumerate() {
            measure.set(0, slot, &[first, 1.0 - first]);
        }
        for (slot, first) in [(0, 1.0), (2, 0.0)] {
            measure.set(1, slot, &[first, 1.0 - first]);
        }
        let prompts: [&[u32]; 2] = [&[0, 1], &[2, 3]];
        let sides = |measure: &Measure, prompts: &[&[u32]]| {
            let compared = measure.estimate(&population(prompts), 0);
            compared.sides.map(|side| side.map(|e| e.value))
        };
        let quarter = 0.25 * 2f64.sqrt();
        assert_eq!(sides(&measure, &prompts), [Some(quarter), Some(0.0)]);
        let of = distance;
        let mean = measure.read_as(Reading::Shares { of, target });
        let half = 0.5 * 0.5f64.sqrt();
        assert_eq!(sides(&mean, &prompts), [Some(half), Some(0.5f64.sqrt())]);
        // A prompt of one side only is in neither.
        let alone: [&[u32]; 2] = [&[0, 2], &[3]];
        assert_eq!(sides(&measure, &alone)[0], Some(0.5f64.sqrt()));
        assert_eq!(sides(&measure, &[&[1], &[3]]), [None, None]);
    }

    #[test]
    fn several_measures_make_one_number_on_each_side() {
        let mut measures = [(); 2].map(|()| Measure::new(Reading::Mean, 2, false));
        measures[0].set(0, 0, &[2.0]);
        measures[0].set(1, 1, &[3.0]);
        measures[1].set(0, 1, &[8.0]);
        let product = |values: &[f64]| values.iter().product();
        let joined = Measure::estimate_joined(&measures, product, &population(&[&[0, 1]]), 0);
        assert_eq!(joined.sides[0].map(|e| e.value), Some(16.0));
        // The second measure knows nothing of the second side.
        assert_eq!((joined.sides[1], joined.difference), (None, None));
    }
}
