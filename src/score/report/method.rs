//! The report's end: which pictures count, and how all this was measured.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use super::context::Context;
use super::words::{capital, count, number, reason};
use crate::score::scores::Counts;

impl Context<'_> {
    /// Pictures that don't count, and why.
    pub(super) fn dropped(&self) -> Markup {
        let pictures = &self.scores.pictures;
        let sides: Vec<(&str, &Counts)> = self
            .sides()
            .iter()
            .filter_map(|&(side, name)| Some((name, pictures.side(side)?)))
            .collect();
        let reasons: BTreeSet<&String> = sides.iter().flat_map(|(_, c)| c.dropped.keys()).collect();
        let row = |label: &str, of: &dyn Fn(&Counts) -> usize| {
            html! { tr { th { (label) } @for (_, counts) in &sides { td { (of(counts)) } } } }
        };
        html! {
            section #dropped {
                h2 { "Pictures that count, and those that don't" }
                p {
                    "Pictures of people count towards discrepancy and recall where the "
                    "classifiers see a person and are sure enough. Pictures of other things are "
                    "expected to show nobody."
                }
                div.scroll { table {
                    thead { tr { th { "Pictures" } @for (name, _) in &sides { th { (capital(name)) } } } }
                    tbody {
                        (row("In all", &|c| c.files))
                        (row("With a person", &|c| c.kept))
                        @for key in reasons {
                            (row(&capital(&reason(key)), &|c| c.dropped.get(key).copied().unwrap_or(0)))
                        }
                    }
                } }
                @for line in self.scores.left_out_lines() { p.note { (capital(&line)) "." } }
                @if self.scores.pictures_by_kind.len() > 1 {
                    details {
                        summary { "By kind of prompt" }
                        div.scroll { table {
                            thead { tr { th { "Prompts" } @for (name, _) in &sides {
                                th { (capital(name)) }
                            } } }
                            tbody { @for (kind, counts) in &self.scores.pictures_by_kind { tr {
                                th { (capital(kind)) }
                                @for &(side, _) in self.sides() { td {
                                    @if let Some(c) = counts.side(side) {
                                        (c.kept) " of " (c.files) small { (drops(c)) }
                                    }
                                } }
                            } } }
                        } }
                    }
                }
            }
        }
    }

    /// How all this was measured.
    pub(super) fn method(&self) -> Markup {
        let config = &self.scores.config;
        let metrics = self.scored.metrics.list.iter();
        let methods = metrics.filter_map(|metric| metric.method);
        html! {
            section #method {
                h2 { "How this was measured" }
                p {
                    "Every picture was looked at by the classifier chain “" (self.scores.chain.name)
                    "”. " (self.scores.chain.about)
                }
                p {
                    @for method in methods { (method) " " }
                    "Intervals are 95% percentile intervals of a two-level bootstrap: prompts are drawn again, and pictures "
                    "within prompts" @if self.compared() { ", the same on both sides" } ". "
                    "Resampling adds noise of its own, so intervals of small discrepancies lie a "
                    "little high."
                }
                p {
                    "Classifiers make mistakes, and not the same ones for everybody. What they "
                    "call gender or skin tone is how a picture looks to them, not who anybody is."
                }
                dl {
                    @for (key, value) in config {
                        @if !value.is_null() { dt { (reason(key)) } dd { (plain(value)) } }
                    }
                    dt { "chain sha256" } dd { (self.scores.chain.sha256) }
                    @for &(side, name) in self.sides() {
                        @for input in self.scores.inputs.side(side).into_iter().flatten() {
                            dt { (name) } dd { (input.dir) ": " (count(input.pictures, "picture"))
                                ", " (input.sha256)
                                @if let Some(shared) = input.shared_with_training.filter(|&n| n > 0) {
                                    "; " (shared) " have the noise of pictures that were trained on"
                                } }
                        }
                    }
                    @for (program, version) in &self.scores.versions {
                        dt { (program) } dd { (version) }
                    }
                }
            }
        }
    }
}

fn drops(counts: &Counts) -> String {
    let reasons = counts.dropped.iter();
    let words: Vec<String> = reasons
        .map(|(key, n)| format!("{n} {}", reason(key)))
        .collect();
    words.join(", ")
}

/// A value of the configuration without JSON's marks.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n
            .as_f64()
            .map_or(n.to_string(), |v| match v.fract() == 0.0 {
                true => n.to_string(),
                false => number(v, 3),
            }),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{key}: {}", plain(value)),
                _ => format!("{key} {}", plain(value)),
            };
            let inner = map.values().any(Value::is_object);
            let separator = if inner { "; " } else { ", " };
            map.iter().map(entry).collect::<Vec<_>>().join(separator)
        }
        other => other.to_string(),
    }
}
