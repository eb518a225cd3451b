//! Which set of a draw wins.
//!
//! The neutral set wins where it is better on every axis, else the identity-specific one:
//!
//! * On an axis whose target is uniform, the set that shows more different values is better. With
//!   such axes alone this is the official code's rule.
//! * On another, the set whose shares are nearer to the target is, by the Euclidean distance that
//!   [`crate::prompts::shares::distance`] and the discrepancy of `pa-score` are. Counting values
//!   would prefer halves to nine tenths of the value that is to be nine tenths.
//!
//! A tie on one axis is enough for the specific set, which was drawn from the target on all axes. So
//! a swap goes against no axis' target, whatever the kinds of targets beside each other, and distances
//! on axes with different numbers of values need not be added up.
//!
//! The axes that count are the axes file's: that a chain also looks at hair must not decide who wins.
//! Without a file all do that the chain or captions name, each taken as uniform. An axis that nothing
//! was asked about in the neutral pictures can't be compared and doesn't count.

use std::collections::BTreeMap;

use crate::data::dataset::PictureRow;
use crate::data::pool::Pool;
use crate::judge::reading::Meanings;
use crate::prompts::Axes;
use crate::prompts::axes::Axis;
use crate::prompts::shares::{are_uniform, distance};

/// Distances this near to each other are one: shares of .8 and 1 are as far from .9, but not in
/// binary fractions.
const TIE: f64 = 1e-9;

/// Pictures of a set by the value that they show on an axis.
type Tally<'a> = BTreeMap<&'a str, usize>;

/// What decides which set of a draw wins.
pub(super) struct Rule<'a> {
    axes: Option<&'a Axes>,
    meanings: Meanings,
}

impl<'a> Rule<'a> {
    /// The rule for these targets.
    pub(super) fn of(axes: Option<&'a Axes>) -> Self {
        let meanings = Meanings::of(axes);
        Self { axes, meanings }
    }

    /// Whether the neutral set wins; never with a picture that nobody has judged.
    pub(super) fn swaps(&self, dataset: &Pool, specific: &[usize], neutral: &[usize]) -> bool {
        if !neutral.iter().all(|&row| self.tells(dataset.row(row))) {
            return false;
        }
        let specific = self.tallies(dataset, specific);
        let neutral = self.tallies(dataset, neutral);
        let none = Tally::new();
        let of_specific = |axis| specific.get(axis).unwrap_or(&none);
        let mut axes = neutral.iter();
        axes.all(|(axis, own)| self.better(axis, own, of_specific(axis)))
    }

    /// Whether the classifier was asked about an axis that counts, or anything at all where all do.
    pub(super) fn tells(&self, row: &PictureRow) -> bool {
        let seen = row.verdict.as_ref();
        let axes = seen.map(|seen| self.meanings.values(seen));
        axes.is_some_and(|axes| axes.keys().any(|axis| self.counts(axis)))
    }

    fn counts(&self, axis: &str) -> bool {
        self.axes.is_none_or(|axes| axes.axis(axis).is_some())
    }

    /// Whether a set is better than another on an axis.
    fn better(&self, axis: &str, set: &Tally<'_>, other: &Tally<'_>) -> bool {
        let axis = self.axes.and_then(|axes| axes.axis(axis));
        match axis.filter(|axis| !are_uniform(&axis.target)) {
            None => set.len() > other.len(),
            Some(axis) => off(axis, set) < off(axis, other) - TIE,
        }
    }

    /// What a set shows on each axis that counts.
    fn tallies<'b>(&'b self, dataset: &'b Pool, rows: &[usize]) -> BTreeMap<&'b str, Tally<'b>> {
        let mut found: BTreeMap<&str, Tally<'_>> = BTreeMap::new();
        for &row in rows {
            for (axis, value) in shown(dataset.row(row), &self.meanings) {
                if self.counts(axis) {
                    let tally = found.entry(axis).or_default();
                    if let Some(value) = value {
                        *tally.entry(value).or_insert(0) += 1;
                    }
                }
            }
        }
        found
    }
}

/// How far the shares of a set are from the target: endlessly, if it shows no value.
fn off(axis: &Axis, set: &Tally<'_>) -> f64 {
    let pictures: usize = set.values().sum();
    if pictures == 0 {
        return f64::INFINITY;
    }
    let count = |value: &String| set.get(value.as_str()).copied().unwrap_or(0);
    let share = |value| count(value) as f64 / pictures as f64;
    let shares: Vec<f64> = axis.values.iter().map(share).collect();
    distance(&shares, &axis.target)
}

/// The value that a picture shows on each axis: what the classifier saw, else what the caption
/// names. Where the classifier saw no value of the axis there is none, and the caption's doesn't
/// stand in for it.
pub(crate) fn shown<'a>(
    row: &'a PictureRow,
    meanings: &'a Meanings,
) -> BTreeMap<&'a str, Option<&'a str>> {
    let named = row.axes.iter();
    let named = named.map(|(axis, value)| (axis.as_str(), Some(value.as_str())));
    let seen = row.verdict.iter().flat_map(|seen| meanings.values(seen));
    named.chain(seen).collect()
}
