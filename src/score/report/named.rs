//! The report's section on captions that name values.

use maud::{Markup, html};

use super::context::Context;
use super::tables::cell;
use super::words::{capital, count, difference, shown};
use crate::score::metrics::metric::{Metric, Named as Shown, Shape};
use crate::score::scores::Named;

impl Context<'_> {
    /// Whether captions that name values are obeyed.
    pub(super) fn obeyed(&self) -> Markup {
        let own = self.scores.named.0.iter();
        html! {
            @for (metric, numbers) in own {
                @if let Shape::Named(named) = &metric.shape {
                    (self.metric_of_named(metric, named, numbers))
                }
            }
        }
    }

    fn metric_of_named(&self, metric: &Metric, named: &Shown, numbers: &Named) -> Markup {
        let rows = numbers
            .axes
            .iter()
            .map(|(name, sided)| (name.as_str(), sided));
        let rows: Vec<_> = rows.chain([("everything named", &numbers.all)]).collect();
        html! {
            section id=(metric.key) {
                h2 { (named.heading) }
                p { (named.explained.replace("{captions}", &self.captions(numbers.prompts))) }
                div.scroll { table {
                    thead { tr {
                        th { "Axis" }
                        @for (_, name) in self.sides() { th { (capital(name)) } }
                        @if self.compared() { th { "Difference" } }
                    } }
                    tbody { @for (name, sided) in rows { tr {
                        th { (capital(name)) }
                        @for &(side, _) in self.sides() {
                            (cell(sided.side(side), |v| shown(v, metric.unit, metric.decimals)))
                        }
                        @if self.compared() {
                            (cell(sided.difference.as_ref(), |v| {
                                difference(v, metric.unit, metric.decimals)
                            }))
                        }
                    } } }
                } }
                (self.by_value(metric, numbers))
            }
        }
    }

    fn by_value(&self, metric: &Metric, numbers: &Named) -> Markup {
        html! {
            details {
                summary { "Value by value" }
                div.scroll { table {
                    thead { tr {
                        th { "Value" }
                        @for (_, name) in self.sides() { th { (capital(name)) } }
                    } }
                    tbody {
                        @for (axis, values) in &numbers.values {
                            @for (value, shares) in values { tr {
                                th { (value) small { (axis) } }
                                @for &(side, _) in self.sides() { td {
                                    @if let Some(share) = shares.side(side) {
                                        (shown(share.share, metric.unit, metric.decimals))
                                        small { "of " (share.pictures) }
                                    } @else { "–" }
                                } }
                            } }
                        }
                    }
                } }
            }
        }
    }

    /// How many captions name values, and one of them.
    fn captions(&self, prompts: usize) -> String {
        let mut all = self.scores.prompts.iter();
        let example = all.find(|p| !p.named.is_empty()).map_or("", |p| &p.prompt);
        format!("{} such as “{example}”", count(prompts, "caption"))
    }
}
