//! Metrics of the two sides' pictures of one slot.

use std::collections::BTreeMap;

use super::evidence::{Evidence, mean};
use crate::score::gallery::Kind;
use crate::score::look::Likeness;
use crate::score::measure::{Measure, Reading};
use crate::score::metrics::metric::{Metric, Pairs, Shape};
use crate::score::population::Prompt;
use crate::score::scores::{ByMetric, Similarity};

impl Evidence<'_> {
    /// How alike the two sides' pictures of one slot are, by kind of prompt.
    pub fn similarity(&self) -> Option<BTreeMap<&'static str, Similarity>> {
        let measures: Vec<(&'static Metric, Measure)> = self
            .metrics_of_pairs()
            .map(|(metric, pairs)| (metric, self.alike(pairs)))
            .collect();
        if measures.is_empty() {
            return None;
        }
        let kinds = self.kinds().into_iter().filter_map(|kind| {
            let similarity = self.similarity_of(kind, &measures)?;
            Some((kind.name(), similarity))
        });
        Some(kinds.collect())
    }

    fn similarity_of(
        &self,
        kind: Kind,
        measures: &[(&'static Metric, Measure)],
    ) -> Option<Similarity> {
        let slots = self.kind(kind).flat_map(|p| &p.slots);
        let alike: Vec<&Option<Likeness>> = slots.map(|&s| &self.looks.slots[s]).collect();
        let pairs = alike.iter().filter(|likeness| likeness.is_some()).count();
        let of = |(metric, pairs): (&'static Metric, &'static Pairs)| {
            let known = alike
                .iter()
                .filter_map(|likeness| (pairs.of)(likeness.as_ref()?));
            (metric.key, known.count())
        };
        let population = self.resampled(self.kind(kind));
        let numbers = measures.iter().filter_map(|(metric, measure)| {
            let [first, _] = measure.estimate(&population, self.replicates).sides;
            Some((*metric, first?))
        });
        (pairs > 0).then(|| Similarity {
            pairs,
            unpaired: alike.len() - pairs,
            pairs_of: self.metrics_of_pairs().map(of).collect(),
            numbers: numbers.collect(),
        })
    }

    fn alike(&self, pairs: &Pairs) -> Measure {
        let mut measure = self.measure(Reading::Mean, false);
        for (slot, likeness) in self.looks.slots.iter().enumerate() {
            if let Some(value) = likeness.as_ref().and_then(pairs.of) {
                measure.set(0, slot, &[value]);
            }
        }
        measure
    }

    fn metrics_of_pairs(&self) -> impl Iterator<Item = (&'static Metric, &'static Pairs)> {
        let list = self.metrics.list.iter();
        list.filter_map(|&metric| match &metric.shape {
            Shape::Pairs(pairs) => Some((metric, pairs)),
            _ => None,
        })
    }

    /// The means of a prompt's pairs, for metrics that are given prompt by prompt.
    pub(super) fn prompt_pairs(&self, prompt: &Prompt) -> ByMetric<f64> {
        let each = self.metrics_of_pairs().filter(|(_, p)| p.each.is_some());
        each.filter_map(|(metric, pairs)| {
            let likeness = prompt.slots.iter().filter_map(|&s| self.looks.slots[s]);
            Some((metric, mean(likeness.filter_map(|l| (pairs.of)(&l)))?))
        })
        .collect()
    }
}
