//! How often each identity-specific picture of a subject is drawn.
//!
//! Captions that name the same axes are a family ("a {race} {gender} doctor"). Within a family pictures
//! are drawn by the targets of the values that their captions name. What a family doesn't name shows as
//! the model draws it: "an old doctor" is nearly always a man where the model's doctors are. So the
//! shares are then raked ([`super::rake`]) by what the classifier saw: over all of a subject's pictures
//! each axis has its target, with the least change to the shares. Reweighting needs no picture more, as
//! crossed templates would, and gives one LoRA, where the paper's training per axis set gives several.

use std::collections::BTreeMap;

use super::rake::{Margin, rake};
use super::rule::shown;
use crate::data::pool::Pool;
use crate::judge::reading::Meanings;
use crate::prompts::Axes;
use crate::prompts::axes::Axis;

/// How far winners' shares may be from the target before it is said.
const OFF: f64 = 0.01;

/// Specific pictures of a subject by the values that their captions name.
pub(super) type ByValues<'a> = BTreeMap<&'a BTreeMap<String, String>, Vec<usize>>;

/// Pictures that are drawn equally often.
pub(super) struct Group {
    /// Of all draws, beside the other groups' shares.
    pub(super) share: f64,
    pub(super) rows: Vec<usize>,
}

/// Why a subject's winners can't follow the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// No picture shows the value.
    Missing,
    /// Each value is there, but not so that all axes can have their targets together.
    Together,
    /// Neither captions nor verdicts tell the value of pictures.
    Unknown,
}

/// What of a subject's winners isn't as the target says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Miss {
    pub(super) axis: String,
    /// The value whose share is too small; none where the values aren't known.
    pub(super) value: Option<String>,
    pub(super) share: f64,
    pub(super) target: f64,
    pub(super) reason: Reason,
}

/// An axis that winners are to follow.
struct Aim {
    axis: String,
    values: Vec<String>,
    target: Vec<f64>,
}

/// The groups of a subject's specific pictures as their captions have them.
pub(super) struct Captioned {
    aims: Vec<Aim>,
    groups: Vec<Group>,
}

impl Captioned {
    /// Groups pictures by what their captions name.
    pub(super) fn new(by_values: ByValues<'_>, axes: Option<&Axes>) -> Self {
        let aims = aims(&by_values, axes);
        let groups = by_captions(by_values, &aims);
        Self { aims, groups }
    }

    /// Whether no picture can be drawn.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// The groups raked to the target, and where they can't follow it.
pub(super) fn raked(
    dataset: &Pool,
    captioned: Captioned,
    meanings: &Meanings,
) -> (Vec<Group>, Vec<Miss>) {
    let Captioned { aims, groups } = captioned;
    let cells = cells(dataset, &groups, &aims, meanings);
    let margin = |(i, aim): (usize, &Aim)| Margin {
        of: cells.iter().map(|cell| cell.values[i]).collect(),
        target: aim.target.clone(),
    };
    let margins: Vec<Margin> = aims.iter().enumerate().map(margin).collect();
    let before: Vec<f64> = cells.iter().map(|cell| cell.group.share).collect();
    let mut after = before.clone();
    rake(&mut after, &margins);
    let aimed = aims.iter().zip(&margins);
    let misses = aimed.flat_map(|(aim, margin)| aim.misses(margin, &after));
    let misses = misses.collect();
    if after == before {
        return (groups, misses);
    }
    let cells = cells
        .into_iter()
        .zip(after)
        .filter(|(_, share)| *share > 0.0);
    let groups = cells.map(|(cell, share)| Group {
        share,
        rows: cell.group.rows,
    });
    (groups.collect(), misses)
}

/// The axes of the file; without one those that captions name, all values alike.
fn aims(by_values: &ByValues<'_>, axes: Option<&Axes>) -> Vec<Aim> {
    if let Some(axes) = axes {
        let aim = |axis: &Axis| Aim {
            axis: axis.name.clone(),
            values: axis.values.clone(),
            target: axis.target.clone(),
        };
        return axes.axes().iter().map(aim).collect();
    }
    let mut named: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for (axis, value) in by_values.keys().flat_map(|named| named.iter()) {
        let values = named.entry(axis).or_default();
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    let aim = |(axis, values): (&String, Vec<String>)| Aim {
        axis: axis.clone(),
        target: vec![1.0 / values.len() as f64; values.len()],
        values,
    };
    named.into_iter().map(aim).collect()
}

impl Aim {
    /// What is off after raking.
    fn misses(&self, margin: &Margin, weights: &[f64]) -> Vec<Miss> {
        let miss = |value: Option<usize>, share, target, reason| Miss {
            axis: self.axis.clone(),
            value: value.map(|value| self.values[value].clone()),
            share,
            target,
            reason,
        };
        let mut misses = Vec::new();
        let unknown = margin.unknown(weights);
        if unknown > OFF {
            misses.push(miss(None, unknown, 0.0, Reason::Unknown));
        }
        let shares = margin.shares(weights).unwrap_or_default();
        for (value, (share, target)) in shares.into_iter().zip(&self.target).enumerate() {
            let reason = match margin.of.contains(&Some(value)) {
                true => Reason::Together,
                false => Reason::Missing,
            };
            if share < target - OFF {
                misses.push(miss(Some(value), share, *target, reason));
            }
        }
        misses
    }
}

/// Pictures by the values that their captions name: those that name the same axes share by these axes'
/// targets; such families share by their numbers of pictures.
fn by_captions(by_values: ByValues<'_>, aims: &[Aim]) -> Vec<Group> {
    let target = |axis: &str, value: &str| {
        let Some(aim) = aims.iter().find(|aim| aim.axis == axis) else {
            return 1.0;
        };
        let index = aim.values.iter().position(|v| v == value);
        index.map_or(1.0, |i| aim.target[i])
    };
    let mut families: BTreeMap<Vec<&str>, Vec<Group>> = BTreeMap::new();
    for (values, rows) in by_values {
        let share: f64 = values
            .iter()
            .map(|(axis, value)| target(axis, value))
            .product();
        if share > 0.0 {
            let named = values.keys().map(String::as_str).collect();
            families
                .entry(named)
                .or_default()
                .push(Group { share, rows });
        }
    }
    let mut groups = Vec::new();
    for family in families.into_values() {
        let total: f64 = family.iter().map(|group| group.share).sum();
        let pictures: usize = family.iter().map(|group| group.rows.len()).sum();
        for Group { share, rows } in family {
            let share = share / total * pictures as f64;
            groups.push(Group { share, rows });
        }
    }
    groups
}

/// Pictures of a group that show the same.
struct Cell {
    group: Group,
    /// The value on each axis that winners are to follow; none where it isn't known.
    values: Vec<Option<usize>>,
}

/// The groups, cut by what their pictures show.
fn cells(dataset: &Pool, groups: &[Group], aims: &[Aim], meanings: &Meanings) -> Vec<Cell> {
    let mut cells = Vec::new();
    for group in groups {
        let mut cut: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for &row in &group.rows {
            let shown = shown(dataset.row(row), meanings);
            let value = |aim: &Aim| {
                let shown = (*shown.get(aim.axis.as_str())?)?;
                aim.values.iter().position(|value| value == shown)
            };
            let values: Vec<_> = aims.iter().map(value).collect();
            cut.entry(values).or_default().push(row);
        }
        for (values, rows) in cut {
            let share = group.share * rows.len() as f64 / group.rows.len() as f64;
            let group = Group { share, rows };
            cells.push(Cell { group, values });
        }
    }
    cells
}
