//! The report's sections of numbers.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::charts::{self, Bar};
use super::words::{
    Change, capital, change, count, interval, list, number, percent, reason, relative, signed,
};
use crate::score::bootstrap::Estimate;
use crate::score::scores::{AxisScore, Counts, Quality, Sided};

/// Decimals of a quality metric.
fn decimals(metric: &str) -> usize {
    match metric {
        "clip" => 2,
        _ => 3,
    }
}

/// What a quality metric is called.
fn title(metric: &str) -> &'static str {
    match metric {
        "clip" => "Agreement with captions",
        "reference" => "Nearness to reference pictures",
        _ => "Fréchet distance to reference pictures",
    }
}

impl Context<'_> {
    /// What the report says in one breath.
    pub(super) fn headline(&self) -> Markup {
        let axes: Vec<&AxisScore> = self.scores.axes.iter().collect();
        let of = |wanted: Change| -> Vec<String> {
            let some = axes
                .iter()
                .filter(|a| change(&a.discrepancy) == Some(wanted));
            some.map(|a| a.axis.clone()).collect()
        };
        let (fell, rose) = (of(Change::Fell), of(Change::Rose));
        let gap = |axes: &[String], verb: &str| {
            let plural = if axes.len() == 1 { "" } else { "s" };
            format!("he {} gap{plural} {verb}", list(axes))
        };
        let known = axes.iter().any(|a| change(&a.discrepancy).is_some());
        let title = match (self.compared(), fell.is_empty(), rose.is_empty()) {
            (true, false, true) => format!("T{}", gap(&fell, "narrowed")),
            (true, true, false) => format!("T{}", gap(&rose, "widened")),
            (true, false, false) => {
                format!("T{}, t{}", gap(&fell, "narrowed"), gap(&rose, "widened"))
            }
            (true, true, true) if known => "No measurable change in who is drawn".to_owned(),
            (true, true, true) => "Who is drawn, before and after".to_owned(),
            (false, ..) => "Who is drawn".to_owned(),
        };
        html! {
            p.kicker { "Population report" }
            h1 { (title) }
            p.lead { (self.lead()) }
        }
    }

    fn lead(&self) -> String {
        let mut sentences = Vec::new();
        let axes: Vec<String> = self.scores.axes.iter().filter_map(axis_words).collect();
        if let (Some(first), false) = (self.scores.axes.first(), axes.is_empty()) {
            let prompts = count(first.prompts, "identity-neutral prompt");
            sentences.push(format!(
                "Over {prompts}, the mean discrepancy {}.",
                list(&axes)
            ));
        }
        let quality: Vec<String> = self
            .scores
            .quality
            .iter()
            .filter(|q| q.metric != "frechet")
            .filter_map(quality_words)
            .collect();
        if !quality.is_empty() {
            sentences.push(format!("{}.", capital(&list(&quality))));
        }
        if let Some(recall) = self.scores.recall.as_ref().map(|r| &r.all)
            && let Some(words) = went(recall, |v| percent(v, 1))
        {
            let verb = if self.compared() { "went from" } else { "is" };
            sentences.push(format!(
                "Recall of captions that name who to draw {verb} {words}."
            ));
        }
        sentences.join(" ")
    }

    /// The most important numbers, large.
    pub(super) fn key_figures(&self) -> Markup {
        let axes = self.scores.axes.iter();
        html! {
            section.figures aria-label="Key figures" {
                @for axis in axes {
                    (figure(
                        &format!("{} discrepancy", axis.axis),
                        &axis.discrepancy,
                        |v| number(v, 2),
                        Some(false),
                    ))
                }
                @if let Some(recall) = &self.scores.recall {
                    (figure("recall of named values", &recall.all, |v| percent(v, 1), Some(true)))
                }
                @for quality in &self.scores.quality {
                    (figure(
                        &title(quality.metric).to_lowercase(),
                        &quality.all,
                        |v| number(v, decimals(quality.metric)),
                        Some(quality.higher_is_better),
                    ))
                }
            }
        }
    }

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

    /// What people said, where they were asked.
    pub(super) fn people(&self) -> Markup {
        let Some(human) = self.report.human else {
            return html! {};
        };
        html! {
            section #people {
                h2 { "What people say" }
                p { (count(human.raters, "person")) " compared sets of pictures without knowing "
                    "which side they are of. Krippendorff's alpha says how far they agree: 1 is "
                    "always, 0 is as chance would." }
                div.scroll { table {
                    thead { tr { th { "Question" } th { "Prefer after" } th { "Prefer before" }
                        th { "Tie" } th { "Alpha" } } }
                    tbody { @for (question, answer) in &human.questions { tr {
                        th { (capital(question)) }
                        td { (percent(answer.scored, 0)) }
                        td { (percent(answer.against, 0)) }
                        td { (percent(answer.tie, 0)) }
                        td { @match answer.alpha {
                            Some(alpha) => (number(alpha, 2)),
                            None => "–",
                        } }
                    } } }
                } }
            }
        }
    }

    /// How all this was measured.
    pub(super) fn method(&self) -> Markup {
        let config = &self.scores.config;
        html! {
            section #method {
                h2 { "How this was measured" }
                p {
                    "Every picture was looked at by the classifier chain “" (self.scores.chain.name)
                    "”. " (self.scores.chain.about)
                }
                p {
                    "Discrepancy is the Euclidean distance between the target shares and the "
                    "shares of pictures by their most probable value (the fairness discrepancy of "
                    "Choi et al., as in the PopAlign paper). Intervals are 95% percentile "
                    "intervals of a two-level bootstrap: prompts are drawn again, and pictures "
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
                                ", " (input.sha256) }
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

/// A large number, or two with an arrow.
fn figure(
    name: &str,
    sided: &Sided<Estimate>,
    show: impl Fn(f64) -> String,
    higher_is_better: Option<bool>,
) -> Markup {
    let Some(scored) = &sided.scored else {
        return html! {};
    };
    let tone = match (change(sided), higher_is_better) {
        (Some(Change::Fell), Some(better)) => {
            if better {
                "worse"
            } else {
                "better"
            }
        }
        (Some(Change::Rose), Some(better)) => {
            if better {
                "better"
            } else {
                "worse"
            }
        }
        _ => "same",
    };
    html! {
        div.figure {
            p.name { (capital(name)) }
            p.value {
                @if let Some(against) = &sided.against {
                    span.was { (show(against.value)) }
                    span.arrow aria-label="to" { "→" }
                    wbr;
                }
                b { (show(scored.value)) }
            }
            @if let Some(share) = relative(sided) {
                p.change.(tone) {
                    (signed(100.0 * share, 1)) "%"
                    @if tone == "same" && change(sided).is_some() { small { "within chance" } }
                }
            } @else if let Some(text) = interval(scored, &show) {
                p.change { (text) }
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

/// "of gender went from 0.42 to 0.18 (−57%)".
fn axis_words(axis: &AxisScore) -> Option<String> {
    Some(format!(
        "of {} {}",
        axis.axis,
        went_verb(&axis.discrepancy, |v| number(v, 2))?
    ))
}

fn quality_words(quality: &Quality) -> Option<String> {
    let show = |v: f64| number(v, decimals(quality.metric));
    let name = title(quality.metric).to_lowercase();
    Some(format!("{name} {}", went_verb(&quality.all, show)?))
}

/// "went from 0.42 to 0.18 (−57%)", or "is 0.42".
fn went_verb(sided: &Sided<Estimate>, show: impl Fn(f64) -> String) -> Option<String> {
    let words = went(sided, show)?;
    let share = relative(sided).map(|r| format!(" ({}%)", signed(100.0 * r, 0)));
    Some(match (&sided.against, share) {
        (Some(_), share) => format!("went from {words}{}", share.unwrap_or_default()),
        (None, _) => format!("is {words}"),
    })
}

/// "0.42 to 0.18", or "0.42".
fn went(sided: &Sided<Estimate>, show: impl Fn(f64) -> String) -> Option<String> {
    let scored = show(sided.scored?.value);
    Some(match &sided.against {
        Some(against) => format!("{} to {scored}", show(against.value)),
        None => scored,
    })
}
