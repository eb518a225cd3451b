//! The numbers of a run as a whole, for the terminal's lines and the report's top.

use super::bootstrap::Estimate;
use super::metrics::METRICS;
use super::metrics::metric::{Metric, Shape};
use super::scores::{Bounded, Scores, Sided};
use crate::base::LeftOut;

/// One number of the run as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Figure<'a> {
    /// Its metric.
    pub metric: &'static Metric,
    /// What it is of.
    pub of: Of<'a>,
    /// The number.
    pub sided: &'a Sided<Estimate>,
    /// What it could be if dropped pictures counted, where that can be said.
    pub bounds: Option<&'a Sided<Bounded>>,
}

/// What a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// The shares of one axis.
    Axis(&'a str),
    /// All axes.
    AllAxes,
    /// All pictures.
    Pictures,
}

impl Figure<'_> {
    fn line(&self) -> Option<String> {
        let key = self.metric.key;
        let name = match (self.of, &self.metric.shape) {
            (Of::Axis(axis), Shape::Axes(axes)) => {
                format!("{key} of {axis}, {}", axes.over.words())
            }
            (Of::AllAxes, Shape::Axes(axes)) => axes.joined.as_ref()?.key.to_owned(),
            _ => key.to_owned(),
        };
        let side = |side: usize| {
            let number = self.sided.side(side)?.text();
            let bounds = self.bounds.and_then(|bounds| bounds.side(side));
            Some(number + &bounds.map_or_else(String::new, Bounded::words))
        };
        let scored = side(0)?;
        Some(match side(1) {
            None => format!("{name}: {scored}"),
            Some(against) => format!("{name}: {against} -> {scored}"),
        })
    }
}

impl Bounded {
    /// What stands behind a number in the terminal; nothing where no picture was dropped.
    fn words(&self) -> String {
        let Self { low, high, dropped } = self;
        match dropped {
            0 => String::new(),
            _ => format!(" ({low:.3} to {high:.3} if the {dropped} dropped counted)"),
        }
    }
}

impl Scores {
    /// The numbers of the run as a whole, metric by metric.
    pub fn figures(&self) -> Vec<Figure<'_>> {
        METRICS
            .iter()
            .flat_map(|metric| self.figures_of(metric))
            .collect()
    }

    fn figures_of(&self, metric: &'static Metric) -> Vec<Figure<'_>> {
        let bounds = None;
        let figure = |of, sided| Figure {
            metric,
            of,
            sided,
            bounds,
        };
        match &metric.shape {
            Shape::Axes(_) => {
                let axes = self.axes.iter().filter_map(|axis| {
                    let number = axis.numbers.of(metric)?;
                    Some(Figure {
                        bounds: number.bounds.as_ref(),
                        ..figure(Of::Axis(&axis.axis), &number.hard)
                    })
                });
                let joined = self.over_axes.0.iter().filter(|(own, _)| *own == metric);
                axes.chain(joined.map(|(_, sided)| figure(Of::AllAxes, sided)))
                    .collect()
            }
            Shape::Named(_) => {
                let own = self.named.of(metric).into_iter();
                own.map(|named| figure(Of::Pictures, &named.all)).collect()
            }
            Shape::Pictures(_) | Shape::Embeddings(_) => {
                let own = self.quality.iter().filter(|q| q.metric == metric);
                own.map(|q| figure(Of::Pictures, &q.all)).collect()
            }
            Shape::Pairs(_) => Vec::new(),
        }
    }

    /// What was left out of these numbers and why, a line for each side, and one where prompts are.
    pub fn left_out_lines(&self) -> Vec<String> {
        let side = |left: &Option<LeftOut>, of: &str| Some(format!("{of}{}", left.as_ref()?));
        let compared = self.left_out.against.is_some();
        let before = compared
            .then(|| side(&self.left_out.against, "before: "))
            .flatten();
        let after = side(&self.left_out.scored, if compared { "after: " } else { "" });
        // Every axis is of the same pictures.
        let axis = self.axes.first().filter(|axis| axis.prompts_left_out > 0);
        let prompts = axis.map(|axis| {
            let (left, all) = (axis.prompts_left_out, axis.prompts + axis.prompts_left_out);
            let sides = if compared { " on both sides" } else { "" };
            format!("{left} of {all} neutral prompts left out: no picture that counts{sides}")
        });
        before.into_iter().chain(after).chain(prompts).collect()
    }

    /// The most important numbers, a line each.
    pub fn summary(&self) -> Vec<String> {
        let figures = self.figures();
        figures.iter().filter_map(Figure::line).collect()
    }
}
