//! The report's sections on axes: a section for each metric of shares.

use maud::{Markup, html};

use super::charts::{self, Bar, highest};
use super::context::Context;
use super::tables::cell;
use super::words::{capital, difference, shown};
use crate::score::metrics::METRICS;
use crate::score::metrics::metric::{Axes, Metric, Over, Shape};
use crate::score::scores::{AxisNumber, AxisScore, Bounded};

/// A prompt's label, numbers by side, and floor.
type Row<'a> = (&'a str, Vec<(&'static str, f64)>, Option<f64>);

impl Context<'_> {
    /// Every metric of shares, axis by axis and prompt by prompt.
    pub(super) fn axes(&self) -> Markup {
        if self.scores.axes.iter().all(|a| a.prompts == 0) {
            return html! {};
        }
        html! {
            @for &metric in METRICS {
                @if let Shape::Axes(axes) = &metric.shape { (self.metric_of_axes(metric, axes)) }
            }
        }
    }

    fn metric_of_axes(&self, metric: &Metric, axes: &Axes) -> Markup {
        let numbers: Vec<(&AxisScore, &AxisNumber)> = self
            .scores
            .axes
            .iter()
            .filter_map(|axis| Some((axis, axis.numbers.of(metric)?)))
            .collect();
        if numbers.is_empty() {
            return html! {};
        }
        let estimates = numbers.iter().flat_map(|(_, number)| {
            let sides = [&number.hard.scored, &number.hard.against];
            sides.into_iter().flatten()
        });
        let most = charts::round_up(estimates.map(highest).fold(0.0, f64::max));
        html! {
            section id=(metric.key) {
                h2 { (metric.title) ", " (axes.over.words()) }
                p {
                    (axes.explained) " Lines show 95% intervals"
                    @if axes.floor.is_some() {
                        "; the small mark shows what a population that meets the target "
                        "would score on average with so few pictures"
                    }
                    "."
                }
                @for (axis, number) in &numbers {
                    h3 { (capital(&axis.axis)) }
                    @for &(side, name) in self.sides() {
                        @if let Some(estimate) = number.hard.side(side) {
                            (charts::bar(&Bar {
                                side: name,
                                estimate,
                                mark: number.floor_of(side),
                                unit: metric.unit,
                                decimals: metric.decimals,
                            }, most))
                        }
                    }
                    (charts::ruler(most, metric.unit))
                }
                (self.axes_table(metric, axes, &numbers))
                @if axes.over == Over::Prompts { (self.by_prompt(metric, &numbers)) }
            }
        }
    }

    fn axes_table(
        &self,
        metric: &Metric,
        axes: &Axes,
        numbers: &[(&AxisScore, &AxisNumber)],
    ) -> Markup {
        let decimals = metric.decimals + 1;
        let show = |v: f64| shown(v, metric.unit, decimals);
        html! {
            details {
                summary { "The numbers" }
                div.scroll { table {
                    thead { tr {
                        th { "Axis" }
                        @for (_, name) in self.sides() { th { (capital(name)) } }
                        @if self.compared() { th { "Difference" } }
                        th { "From probabilities" }
                        @if axes.floor.is_some() { th { "At the target" } }
                        @if axes.bounds.is_some() { th { "If dropped pictures counted" } }
                        th { "Prompts" }
                    } }
                    tbody { @for (axis, number) in numbers { tr {
                        th { (axis.axis) }
                        @for &(side, _) in self.sides() {
                            (cell(number.hard.side(side), show))
                        }
                        @if self.compared() {
                            (cell(number.hard.difference.as_ref(), |v| {
                                difference(v, metric.unit, decimals)
                            }))
                        }
                        td { (self.pair(|side| number.soft.side(side).map(|e| show(e.value)))) }
                        @if axes.floor.is_some() {
                            td { (self.pair(|side| number.floor_of(side).map(show))) }
                        }
                        @if axes.bounds.is_some() {
                            td { (self.pair(|side| {
                                let Bounded { low, high, .. } = number.bounds_of(side)?;
                                Some(format!("{} to {}", show(*low), show(*high)))
                            })) }
                        }
                        td { (axis.prompts) @if axis.prompts_left_out > 0 {
                            small { (axis.prompts_left_out) " left out" }
                        } }
                    } } }
                } }
            }
        }
    }

    fn by_prompt(&self, metric: &Metric, numbers: &[(&AxisScore, &AxisNumber)]) -> Markup {
        html! {
            details {
                summary { "Prompt by prompt" }
                @for (axis, _) in numbers {
                    @let rows = self.rows(metric, &axis.axis);
                    @let highest = rows.iter().flat_map(|(_, points, _)| points).map(|(_, v)| *v);
                    @let most = charts::round_up(highest.fold(0.0, f64::max));
                    h3 { (capital(&axis.axis)) }
                    div.dumbbells {
                        @for (label, points, floor) in &rows {
                            (charts::dumbbell(label, points, *floor, most, |v| {
                                shown(v, metric.unit, metric.decimals)
                            }))
                        }
                    }
                }
            }
        }
    }

    fn rows(&self, metric: &Metric, axis: &str) -> Vec<Row<'_>> {
        let prompts = self.scores.prompts.iter();
        let rows = prompts.filter_map(|prompt| {
            let own = prompt.axes.iter().find(|a| a.axis == axis)?;
            let number = own.numbers.of(metric)?;
            let sides = self.sides().iter();
            let points: Vec<_> = sides
                .filter_map(|&(side, name)| Some((name, number.hard.side(side)?.value)))
                .collect();
            let floor = number.floor_of(0).or(number.floor_of(1));
            (!points.is_empty()).then_some((prompt.prompt.as_str(), points, floor))
        });
        rows.collect()
    }
}
