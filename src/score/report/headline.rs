//! The report's top: what happened in one breath, and the most important numbers.

use maud::{Markup, html};

use super::Context;
use super::sections::{decimals, title};
use super::words::{
    Change, capital, change, count, interval, list, number, percent, relative, signed,
};
use crate::score::bootstrap::Estimate;
use crate::score::scores::{AxisScore, Quality, Sided};

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
