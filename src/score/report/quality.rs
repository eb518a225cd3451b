//! The report's section on how good the pictures are.

use maud::{Markup, html};

use super::charts::{self, Bar, highest};
use super::context::Context;
use super::tables::cell;
use super::words::{capital, difference, shown};
use crate::score::metrics::metric::{Better, Shape};
use crate::score::scores::Quality;

impl Context<'_> {
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
        let metric = quality.metric;
        let (unit, decimals) = (metric.unit, metric.decimals);
        let together = matches!(metric.shape, Shape::Embeddings(_));
        html! {
            h3 { (metric.title) }
            p.note {
                (capital(metric.about)) "; "
                @match metric.better {
                    Better::Higher => "more is better.",
                    Better::Lower => "less is better.",
                }
                " Of " (self.pair(|side| quality.pictures.side(side).map(ToString::to_string)))
                " pictures that can be read."
            }
            @for (name, estimate) in &estimates {
                (charts::bar(&Bar { side: name, estimate, mark: None, unit, decimals }, most))
            }
            (charts::ruler(most, unit))
            // All embeddings together are no kind of prompt: one kind says something new.
            @if quality.kinds.len() > 1 || together { (self.by_kind(quality)) }
        }
    }

    fn by_kind(&self, quality: &Quality) -> Markup {
        let (unit, decimals) = (quality.metric.unit, quality.metric.decimals);
        html! {
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
                            (cell(sided.side(side), |v| shown(v, unit, decimals)))
                        }
                        @if self.compared() {
                            (cell(sided.difference.as_ref(), |v| difference(v, unit, decimals)))
                        }
                    } } }
                } }
            }
        }
    }
}
