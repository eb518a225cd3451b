//! Metrics of pictures whose captions name values.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use crate::judge::scales::Scale;
use crate::score::bootstrap::{Estimate, Population as Resampled};
use crate::score::gallery::Kind;
use crate::score::measure::Reading;
use crate::score::metrics::metric::{Named as Shown, Shape};
use crate::score::population::Prompt;
use crate::score::scores::{ByMetric, Named, Share, Sided};

impl Evidence<'_> {
    /// Whether captions that name values are obeyed; nothing without such captions.
    pub fn named(&self) -> ByMetric<Named> {
        let list = self.metrics.list.iter();
        list.filter_map(|&metric| match &metric.shape {
            Shape::Named(named) => Some((metric, self.named_of(named)?)),
            _ => None,
        })
        .collect()
    }

    fn named_of(&self, shown: &Shown) -> Option<Named> {
        let prompts: Vec<&Prompt> = self.kind(Kind::Specific).collect();
        let named = |scale: &&Scale| prompts.iter().any(|p| p.axes.contains_key(&scale.name));
        let scales: Vec<&Scale> = self.metrics.scales.iter().filter(named).collect();
        if scales.is_empty() {
            return None;
        }
        let population = self.resampled(prompts.iter().copied());
        let mut axes = BTreeMap::new();
        let mut values = BTreeMap::new();
        for &scale in &scales {
            let of = |prompt: &Prompt, shot: usize| self.shows(shown, scale, prompt, shot);
            axes.insert(scale.name.clone(), self.mean_shown(&population, of));
            let by_value = self.by_value(shown, scale, &prompts);
            values.insert(scale.name.clone(), by_value);
        }
        let all = |prompt: &Prompt, shot: usize| {
            let each = scales
                .iter()
                .filter_map(|s| self.shows(shown, s, prompt, shot));
            each.reduce(|a, b| a * b)
        };
        Some(Named {
            prompts: prompts.len(),
            all: self.mean_shown(&population, all),
            axes,
            values,
        })
    }

    fn mean_shown(
        &self,
        population: &Resampled,
        of: impl Fn(&Prompt, usize) -> Option<f64>,
    ) -> Sided<Estimate> {
        let mut measure = self.measure(Reading::Mean, false);
        for (side, slot, shot) in self.places() {
            let prompt = &self.population.prompts[self.population.slots[slot].prompt];
            if let Some(value) = of(prompt, shot) {
                measure.set(side, slot, &[value]);
            }
        }
        measure.estimate(population, self.replicates).into()
    }

    /// How far a picture shows the value that its caption names; nothing if it names none, or the
    /// picture doesn't count.
    fn shows(&self, shown: &Shown, scale: &Scale, prompt: &Prompt, shot: usize) -> Option<f64> {
        let asked = scale.index(prompt.axes.get(&scale.name)?)?;
        match self.standing(scale, shot) {
            Some(standing) => Some((shown.of)(&standing, asked)),
            None => shown.dropped,
        }
    }

    fn by_value(
        &self,
        shown: &Shown,
        scale: &Scale,
        prompts: &[&Prompt],
    ) -> BTreeMap<String, Sided<Share>> {
        let of = |value: &String, side: usize| {
            let asked = prompts
                .iter()
                .filter(|p| p.axes.get(&scale.name) == Some(value));
            let shots = asked.flat_map(|p| self.shots(p, side).map(move |shot| (p, shot)));
            let each: Vec<f64> = shots
                .filter_map(|(p, shot)| self.shows(shown, scale, p, shot))
                .collect();
            (!each.is_empty()).then(|| Share {
                share: each.iter().sum::<f64>() / each.len() as f64,
                pictures: each.len(),
            })
        };
        let values = scale.values.iter();
        values
            .map(|value| (value.clone(), self.sides(|side| of(value, side))))
            .collect()
    }
}
