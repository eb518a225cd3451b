//! What every section of the report is written from.

use super::thumbnails::Thumbnails;
use crate::align::log::Line;
use crate::score::human::Agreement;
use crate::score::request::Scored;
use crate::score::scores::Scores;

/// What a section is written from.
pub(super) struct Context<'a> {
    pub(super) scored: &'a Scored,
    pub(super) scores: &'a Scores,
    /// The training log.
    pub(super) training: Option<&'a [Line]>,
    /// What people said.
    pub(super) human: Option<&'a Agreement>,
    pub(super) thumbnails: Thumbnails<'a>,
}

impl Context<'_> {
    /// Whether there is something to compare with.
    pub(super) fn compared(&self) -> bool {
        self.scored.population.compared
    }

    /// The sides, in the order they are read: before, then after.
    pub(super) fn sides(&self) -> &'static [(usize, &'static str)] {
        match self.compared() {
            true => &[(1, "before"), (0, "after")],
            false => &[(0, "pictures")],
        }
    }

    /// The values of an axis.
    pub(super) fn values(&self, axis: &str) -> Option<&[String]> {
        let axes = self.scores.axes.iter();
        let mut axes = axes.filter(|a| a.axis == axis);
        axes.next().map(|a| a.values.as_slice())
    }

    /// The colour of an axis' first value: the one after those of the axes before it.
    pub(super) fn colour(&self, axis: &str) -> usize {
        let before = self.scores.axes.iter().take_while(|a| a.axis != axis);
        before.map(|a| a.values.len()).sum()
    }

    /// The numbers of both sides in one cell.
    pub(super) fn pair(&self, of: impl Fn(usize) -> Option<String>) -> String {
        let sides = self
            .sides()
            .iter()
            .map(|&(side, _)| of(side).unwrap_or("–".into()));
        sides.collect::<Vec<_>>().join(" → ")
    }
}
