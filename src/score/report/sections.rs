//! The report's sections of numbers.

use maud::{Markup, html};

use super::Context;
use super::charts::{self, Bar};
use super::words::{capital, count, interval, number, percent, signed};
use crate::score::bootstrap::Estimate;
use crate::score::scores::Quality;

/// Decimals of a quality metric.
pub(super) fn decimals(metric: &str) -> usize {
    match metric {
        "clip" => 2,
        _ => 3,
    }
}

/// What a quality metric is called.
pub(super) fn title(metric: &str) -> &'static str {
    match metric {
        "clip" => "Agreement with captions",
        "reference" => "Nearness to reference pictures",
        _ => "Fréchet distance to reference pictures",
    }
}

impl Context<'_> {
    /// Discrepancy, axis by axis and prompt by prompt.
    pub(super) fn discrepancy(&self) -> Markup {
        if self.scores.axes.iter().all(|a| a.prompts == 0) {
            return html! {};
        }
        let estimates = self.scores.axes.iter().flat_map(|a| {
            let sides = [&a.discrepancy.scored, &a.discrepancy.against];
            sides.into_iter().flatten()
        });
        let most = charts::round_up(estimates.map(highest).fold(0.0, f64::max));
        html! {
            section #discrepancy {
                h2 { "Discrepancy" }
                p {
                    "How far the shares of people in pictures of a neutral prompt are from the "
                    "target, averaged over prompts: 0 is the target itself. Lines show 95% "
                    "intervals; the small mark shows what a population that meets the target "
                    "would score on average with so few pictures."
                }
                @for axis in &self.scores.axes {
                    h3 { (capital(&axis.axis)) }
                    @for &(side, name) in self.sides() {
                        @if let Some(estimate) = axis.discrepancy.side(side) {
                            (charts::bar(&Bar {
                                side: name,
                                estimate,
                                mark: axis.floor.side(side).copied(),
                                decimals: 2,
                            }, most))
                        }
                    }
                    (charts::ruler(most))
                }
                (self.discrepancy_table())
                (self.by_prompt())
            }
        }
    }

    fn discrepancy_table(&self) -> Markup {
        let show = |v: f64| number(v, 3);
        html! {
            details {
                summary { "The numbers" }
                div.scroll { table {
                    thead { tr {
                        th { "Axis" }
                        @for (_, name) in self.sides() { th { (capital(name)) } }
                        @if self.compared() { th { "Difference" } }
                        th { "From probabilities" }
                        th { "At the target" }
                        th { "Prompts" }
                    } }
                    tbody { @for axis in &self.scores.axes { tr {
                        th { (axis.axis) }
                        @for &(side, _) in self.sides() {
                            (cell(axis.discrepancy.side(side), show))
                        }
                        @if self.compared() {
                            (cell(axis.discrepancy.difference.as_ref(), |v| signed(v, 3)))
                        }
                        td { (self.pair(|side| axis.soft_discrepancy.side(side).map(|e| show(e.value)))) }
                        td { (self.pair(|side| axis.floor.side(side).map(|v| show(*v)))) }
                        td { (axis.prompts) @if axis.prompts_left_out > 0 {
                            small { (axis.prompts_left_out) " left out" }
                        } }
                    } } }
                } }
            }
        }
    }

    /// The numbers of both sides in one cell.
    fn pair(&self, of: impl Fn(usize) -> Option<String>) -> String {
        let sides = self
            .sides()
            .iter()
            .map(|&(side, _)| of(side).unwrap_or("–".into()));
        sides.collect::<Vec<_>>().join(" → ")
    }

    fn by_prompt(&self) -> Markup {
        let scored = |axis: &str| {
            let prompts = self.scores.prompts.iter();
            let own = prompts.filter_map(|p| Some((p, p.axes.iter().find(|a| a.axis == axis)?)));
            let mut rows: Vec<_> = own
                .map(|(prompt, axis)| {
                    let points: Vec<(&str, f64)> = self
                        .sides()
                        .iter()
                        .filter_map(|&(side, name)| {
                            Some((name, axis.discrepancy.side(side)?.value))
                        })
                        .collect();
                    let floor = axis.floor.scored.or(axis.floor.against);
                    (prompt.prompt.as_str(), points, floor)
                })
                .collect();
            rows.retain(|(_, points, _)| !points.is_empty());
            rows
        };
        html! {
            details {
                summary { "Prompt by prompt" }
                @for axis in &self.scores.axes {
                    @let rows = scored(&axis.axis);
                    @let highest = rows.iter().flat_map(|(_, points, _)| points).map(|(_, v)| *v);
                    @let most = charts::round_up(highest.fold(0.0, f64::max));
                    h3 { (capital(&axis.axis)) }
                    div.dumbbells {
                        @for (label, points, floor) in &rows {
                            (charts::dumbbell(label, points, *floor, most))
                        }
                    }
                }
            }
        }
    }

    /// Whether captions that name values are obeyed.
    pub(super) fn recall(&self) -> Markup {
        let Some(recall) = &self.scores.recall else {
            return html! {};
        };
        let rows = recall
            .axes
            .iter()
            .map(|(name, sided)| (name.as_str(), sided));
        let rows: Vec<_> = rows.chain([("everything named", &recall.all)]).collect();
        html! {
            section #recall {
                h2 { "Captions that name who to draw" }
                p {
                    "The share of pictures, of " (count(recall.prompts, "caption")) " such as “"
                    (self.example()) "”, that show what the caption names. Pictures in which the "
                    "classifiers see nobody, or are not sure, are left out."
                }
                div.scroll { table {
                    thead { tr {
                        th { "Axis" }
                        @for (_, name) in self.sides() { th { (capital(name)) } }
                        @if self.compared() { th { "Difference" } }
                    } }
                    tbody { @for (name, sided) in rows { tr {
                        th { (capital(name)) }
                        @for &(side, _) in self.sides() {
                            (cell(sided.side(side), |v| percent(v, 1)))
                        }
                        @if self.compared() {
                            (cell(sided.difference.as_ref(), |v| {
                                format!("{} points", signed(100.0 * v, 1))
                            }))
                        }
                    } } }
                } }
                details {
                    summary { "Value by value" }
                    div.scroll { table {
                        thead { tr {
                            th { "Value" }
                            @for (_, name) in self.sides() { th { (capital(name)) } }
                        } }
                        tbody {
                            @for (axis, values) in &recall.values {
                                @for (value, shares) in values { tr {
                                    th { (value) small { (axis) } }
                                    @for &(side, _) in self.sides() { td {
                                        @if let Some(share) = shares.side(side) {
                                            (percent(share.share, 1))
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
    }

    fn example(&self) -> &str {
        let prompts = &self.scores.prompts;
        let named = prompts.iter().find(|p| !p.named.is_empty());
        named.map_or("", |p| &p.prompt)
    }

    /// How good the pictures are.
    pub(super) fn quality(&self) -> Markup {
        if self.scores.quality.is_empty() {
            return html! {};
        }
        html! {
            section #quality {
                h2 { "Quality" }
                @for quality in &self.scores.quality { (self.quality_of(quality)) }
            }
        }
    }

    fn quality_of(&self, quality: &Quality) -> Markup {
        let sides = self.sides().iter();
        let estimates = sides.filter_map(|&(side, name)| Some((name, quality.all.side(side)?)));
        let estimates: Vec<_> = estimates.collect();
        let most = charts::round_up(
            estimates
                .iter()
                .map(|(_, e)| highest(e))
                .fold(0.0, f64::max),
        );
        let decimals = decimals(quality.metric);
        html! {
            h3 { (title(quality.metric)) }
            p.note {
                (capital(quality.about)) "; "
                @if quality.higher_is_better { "more is better." } @else { "less is better." }
            }
            @for (name, estimate) in &estimates {
                (charts::bar(&Bar { side: name, estimate, mark: None, decimals }, most))
            }
            (charts::ruler(most))
            @if quality.kinds.len() > 1 || quality.metric == "frechet" {
                details {
                    summary { "By kind of prompt" }
                    div.scroll { table {
                        thead { tr {
                            th { "Prompts" }
                            @for (_, name) in self.sides() { th { (capital(name)) } }
                            @if self.compared() { th { "Difference" } }
                        } }
                        tbody { @for (kind, sided) in &quality.kinds { tr {
                            th { (capital(kind)) }
                            @for &(side, _) in self.sides() {
                                (cell(sided.side(side), |v| number(v, decimals)))
                            }
                            @if self.compared() {
                                (cell(sided.difference.as_ref(), |v| signed(v, decimals)))
                            }
                        } } }
                    } }
                }
            }
        }
    }
}

/// The largest number that a bar shows.
fn highest(estimate: &Estimate) -> f64 {
    estimate.high.unwrap_or(estimate.value).max(estimate.value)
}

/// A number and its interval in a table.
fn cell(estimate: Option<&Estimate>, show: impl Fn(f64) -> String) -> Markup {
    html! {
        td {
            @match estimate {
                None => "–",
                Some(estimate) => {
                    (show(estimate.value))
                    @if let Some(text) = interval(estimate, &show) { small { (text) } }
                }
            }
        }
    }
}
