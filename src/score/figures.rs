//! The numbers of a run as a whole, for the terminal's lines and the report's top.

use super::bootstrap::Estimate;
use super::metrics::METRICS;
use super::metrics::metric::{Metric, Shape};
use super::scores::{Scores, Sided};

/// One number of the run as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Figure<'a> {
    /// Its metric.
    pub metric: &'static Metric,
    /// What it is of.
    pub of: Of<'a>,
    /// The number.
    pub sided: &'a Sided<Estimate>,
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
            (Of::Axis(axis), _) => format!("{key} of {axis}"),
            (Of::AllAxes, Shape::Axes(axes)) => axes.joined.as_ref()?.key.to_owned(),
            _ => key.to_owned(),
        };
        let scored = self.sided.scored?.text();
        Some(match &self.sided.against {
            None => format!("{name}: {scored}"),
            Some(against) => format!("{name}: {} -> {scored}", against.text()),
        })
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
        let figure = |of, sided| Figure { metric, of, sided };
        match &metric.shape {
            Shape::Axes(_) => {
                let axes = self.axes.iter().filter_map(|axis| {
                    let number = axis.numbers.of(metric)?;
                    Some(figure(Of::Axis(&axis.axis), &number.hard))
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

    /// The most important numbers, a line each.
    pub fn summary(&self) -> Vec<String> {
        let figures = self.figures();
        figures.iter().filter_map(Figure::line).collect()
    }
}
