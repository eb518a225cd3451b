//! The report's top: what happened in one breath, and the most important numbers.

use maud::{Markup, html};

use super::context::Context;
use super::words::{Change, capital, change, count, interval, list, relative, shown, signed};
use crate::score::bootstrap::Estimate;
use crate::score::figures::{Figure, Of};
use crate::score::metrics::metric::{Asked, Better, Metric, Shape};
use crate::score::scores::Sided;

impl Context<'_> {
    /// What the report says in one breath.
    pub(super) fn headline(&self) -> Markup {
        let gaps = self.gaps();
        let of = |wanted: Change| -> Vec<String> {
            let some = gaps.iter().filter(|(_, c)| *c == Some(wanted));
            some.map(|(axis, _)| (*axis).to_owned()).collect()
        };
        let (fell, rose) = (of(Change::Fell), of(Change::Rose));
        let gap = |axes: &[String], verb: &str| {
            let plural = if axes.len() == 1 { "" } else { "s" };
            format!("he {} gap{plural} {verb}", list(axes))
        };
        let known = gaps.iter().any(|(_, change)| change.is_some());
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

    /// Every axis, and how its headline number changed.
    fn gaps(&self) -> Vec<(&str, Option<Change>)> {
        let axes = self.scores.axes.iter();
        let gaps =
            axes.filter_map(|a| Some((a.axis.as_str(), change(&a.numbers.headline()?.hard))));
        gaps.collect()
    }

    fn lead(&self) -> String {
        let figures = self.scores.figures();
        let words = |wanted: fn(&Figure<'_>) -> bool, before: &str| -> Vec<String> {
            let some = figures.iter().filter(|figure| wanted(figure));
            some.filter_map(|figure| words(figure, before)).collect()
        };
        let mut sentences = Vec::new();
        let axes = words(
            |f| matches!(f.of, Of::Axis(_)) && f.metric.is_headline(),
            "of ",
        );
        let pooled = words(
            |f| matches!(f.of, Of::Axis(_)) && f.metric.asked == Asked::WithAxis,
            "of ",
        );
        if let (Some(first), false) = (self.scores.axes.first(), axes.is_empty()) {
            let prompts = count(first.prompts, "identity-neutral prompt");
            let title = first.numbers.headline().map_or("", |n| n.metric.title);
            sentences.push(format!(
                "Over {prompts}, the mean {} {}.",
                title.to_lowercase(),
                list(&axes)
            ));
            if !pooled.is_empty() {
                let title = title.to_lowercase();
                sentences.push(format!(
                    "Pooled over prompts, the {title} {}.",
                    list(&pooled)
                ));
            }
        }
        let quality = words(|f| matches!(f.metric.shape, Shape::Pictures(_)), "");
        if !quality.is_empty() {
            sentences.push(format!("{}.", capital(&list(&quality))));
        }
        let named = figures.iter().filter_map(|figure| self.named_words(figure));
        sentences.extend(named);
        sentences.join(" ")
    }

    /// "Recall of captions that name who to draw went from 100.0% to 91.7%."
    fn named_words(&self, figure: &Figure<'_>) -> Option<String> {
        let Shape::Named(named) = &figure.metric.shape else {
            return None;
        };
        let words = went(figure.sided, |v| show(figure.metric, v))?;
        let verb = if self.compared() { "went from" } else { "is" };
        Some(format!("{} {verb} {words}.", capital(named.subject)))
    }

    /// The most important numbers, large.
    pub(super) fn key_figures(&self) -> Markup {
        // Of the metrics of axes only the headline's stand here axis by axis.
        let key = |figure: &Figure<'_>| match figure.of {
            Of::Axis(_) => figure.metric.is_headline(),
            Of::AllAxes | Of::Pictures => true,
        };
        html! {
            section.figures aria-label="Key figures" {
                @for figure in self.scores.figures().into_iter().filter(key) {
                    (large(&figure))
                }
            }
        }
    }
}

/// What a figure is called in a sentence.
fn name(figure: &Figure<'_>) -> String {
    let title = match (figure.of, &figure.metric.shape) {
        (Of::AllAxes, Shape::Axes(axes)) => axes.joined.as_ref().map_or("", |j| j.title),
        _ => figure.metric.title,
    };
    match (figure.of, &figure.metric.shape) {
        (Of::Axis(axis), Shape::Axes(axes)) => {
            format!("{axis} {}, {}", title.to_lowercase(), axes.over.words())
        }
        (Of::Axis(axis), _) => format!("{axis} {}", title.to_lowercase()),
        (Of::AllAxes | Of::Pictures, _) => title.to_lowercase(),
    }
}

fn show(metric: &Metric, value: f64) -> String {
    shown(value, metric.unit, metric.decimals)
}

/// A large number, or two with an arrow.
fn large(figure: &Figure<'_>) -> Markup {
    let Figure { metric, sided, .. } = *figure;
    let Some(scored) = &sided.scored else {
        return html! {};
    };
    let show = |v: f64| show(metric, v);
    let tone = match (change(sided), metric.better) {
        (Some(Change::Fell), Better::Lower) | (Some(Change::Rose), Better::Higher) => "better",
        (Some(Change::Fell), Better::Higher) | (Some(Change::Rose), Better::Lower) => "worse",
        (Some(Change::Unclear) | None, _) => "same",
    };
    html! {
        div.figure {
            p.name { (capital(&name(figure))) }
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
            } @else if let Some(text) = interval(scored, show) {
                p.change { (text) }
            }
        }
    }
}

/// "of gender went from 0.42 to 0.18 (−57%)", or "agreement with captions is 28.1".
fn words(figure: &Figure<'_>, before: &str) -> Option<String> {
    let Figure {
        metric, sided, of, ..
    } = *figure;
    let name = match of {
        Of::Axis(axis) => axis.to_owned(),
        Of::AllAxes | Of::Pictures => name(figure),
    };
    let words = went(sided, |v| show(metric, v))?;
    let share = relative(sided).map(|r| format!(" ({}%)", signed(100.0 * r, 0)));
    Some(match (&sided.against, share) {
        (Some(_), share) => {
            format!(
                "{before}{name} went from {words}{}",
                share.unwrap_or_default()
            )
        }
        (None, _) => format!("{before}{name} is {words}"),
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
