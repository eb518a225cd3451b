//! Metrics of quality: over all pictures, and by kind of prompt.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::qualities::Together;
use crate::score::bootstrap::{Estimate, Population as Resampled};
use crate::score::gallery::Kind;
use crate::score::measure::{Compared, Reading, SIDES};
use crate::score::metrics::metric::Metric;
use crate::score::scores::{Quality, Sided};

impl Evidence<'_> {
    /// How good the pictures are.
    pub fn quality(&self) -> Vec<Quality> {
        let list = self.metrics.list.iter();
        let qualities = list.filter_map(|&metric| {
            let pictures = self.qualities.pictures.of(metric);
            let together = self.qualities.together.of(metric);
            let of_pictures = pictures.map(|values| self.quality_of(metric, values));
            of_pictures.or_else(|| together.map(|numbers| quality_together(metric, numbers)))
        });
        qualities.collect()
    }

    fn quality_of(&self, metric: &'static Metric, values: &[Option<f64>]) -> Quality {
        let mut measure = self.measure(Reading::Mean, false);
        for (side, slot, shot) in self.places() {
            if let Some(value) = values[shot] {
                measure.set(side, slot, &[value]);
            }
        }
        let estimate = |population: &Resampled| -> Sided<Estimate> {
            measure.estimate(population, self.replicates).into()
        };
        let kinds = self.kinds().into_iter().map(|kind| {
            let population = self.resampled(self.kind(kind));
            (kind.name(), estimate(&population))
        });
        let counted = |side: usize| {
            let own = self
                .places()
                .filter(|&(s, _, shot)| s == side && values[shot].is_some());
            Some(own.count())
        };
        Quality {
            metric,
            pictures: self.sides(counted),
            all: estimate(&self.resampled(self.population.prompts.iter())),
            kinds: kinds.collect(),
        }
    }
}

fn quality_together(metric: &'static Metric, numbers: &Together) -> Quality {
    Quality {
        metric,
        pictures: Sided::new(numbers.pictures),
        all: exact(numbers.all),
        kinds: BTreeMap::from([(Kind::Neutral.name(), exact(numbers.neutral))]),
    }
}

/// Numbers without intervals, and their difference.
fn exact(values: [Option<f64>; SIDES]) -> Sided<Estimate> {
    let sides = values.map(|v| v.map(Estimate::exact));
    let difference = values[0]
        .zip(values[1])
        .map(|(a, b)| Estimate::exact(a - b));
    Compared { sides, difference }.into()
}
