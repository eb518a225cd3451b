//! The report's pictures: of every prompt before and after, the same seeds side by side.

use maud::{Markup, html};

use super::charts;
use super::context::Context;
use super::words::{capital, count, reason, shown};
use crate::judge::scales::JOINT;
use crate::score::gallery::Kind;
use crate::score::population::Prompt;
use crate::score::scores::PromptScore;

/// Prompts whose pictures are open from the start.
const OPEN: usize = 3;

/// One prompt and its scores.
pub(super) type Shown<'a> = (&'a Prompt, &'a PromptScore);

impl Context<'_> {
    pub(super) fn of_kind(&self, kind: Kind) -> Vec<Shown<'_>> {
        let prompts = self.scored.population.prompts.iter();
        let pairs = prompts.zip(&self.scores.prompts);
        pairs.filter(|(prompt, _)| prompt.kind == kind).collect()
    }

    /// Neutral prompts, and what captions that name values make of them.
    pub(super) fn portraits(&self) -> Markup {
        let neutral = self.of_kind(Kind::Neutral);
        let specific = self.of_kind(Kind::Specific);
        if neutral.is_empty() && specific.is_empty() {
            return html! {};
        }
        let without: usize = neutral
            .iter()
            .filter(|(prompt, _)| self.thumbnails.shown(prompt).is_empty())
            .count();
        html! {
            section #people-drawn {
                h2 { "Who is drawn" }
                @if self.compared() {
                    p { "The same prompts with the same seeds: on the left before, on the right "
                        "after. Faded pictures don't count, because the classifiers see nobody or "
                        "are not sure." }
                }
                p.legends {
                    @for axis in &self.scores.axes {
                        (charts::legend(&axis.axis, self.colour(&axis.axis), &axis.values))
                    }
                }
                @for (index, &(prompt, score)) in neutral.iter().enumerate() {
                    @if !self.thumbnails.shown(prompt).is_empty() {
                        details.prompt open[index < OPEN] {
                            summary { (prompt.text) }
                            (self.pair_of_grids(prompt, Some(score)))
                            (self.named(prompt, &specific))
                        }
                    }
                }
                @if without > 0 {
                    p.note { "Pictures of " (count(without, "more prompt")) " are left out to keep "
                        "this page small." }
                }
                @if neutral.is_empty() { (self.named_alone(&specific)) }
            }
        }
    }

    pub(super) fn pair_of_grids(&self, prompt: &Prompt, score: Option<&PromptScore>) -> Markup {
        html! {
            div.sides {
                @for &(side, name) in self.sides() {
                    div.(name) {
                        @if self.compared() { p.side { (capital(name)) } }
                        (self.grid(std::iter::once(prompt), side, name))
                        @if let Some(score) = score { (self.shares(score, side)) }
                    }
                }
            }
        }
    }

    fn grid<'a>(
        &self,
        prompts: impl Iterator<Item = &'a Prompt>,
        side: usize,
        name: &str,
    ) -> Markup {
        let slots = prompts.flat_map(|prompt| {
            let shown = self.thumbnails.shown(prompt);
            shown.into_iter().map(move |slot| (prompt, slot))
        });
        html! {
            div.grid {
                @for (number, (prompt, slot)) in slots.enumerate() {
                    (self.picture(prompt, slot, side, name, number + 1))
                }
            }
        }
    }

    fn picture(&self, prompt: &Prompt, slot: usize, side: usize, name: &str, nth: usize) -> Markup {
        let scored = self.scored;
        let Some(shot) = scored.population.slots[slot].shots[side] else {
            return html! { span.missing {} };
        };
        let dropped = scored.looks.dropped(shot);
        let words = match dropped {
            Some(why) => format!("not counted: {}", reason(&why.to_string())),
            None => {
                let attributes = scored.looks.attributes(shot);
                let single = scored
                    .metrics
                    .scales
                    .iter()
                    .filter(|s| !s.name.contains(JOINT));
                let values = single.filter_map(|scale| {
                    let standing = scale.read(attributes?).ok()?;
                    Some(scale.values[standing.dominant].as_str())
                });
                values.collect::<Vec<_>>().join(", ")
            }
        };
        let caption = match prompt.kind {
            Kind::Neutral => String::new(),
            _ => format!("{}; ", prompt.text),
        };
        let alt = format!("{name}, picture {nth}: {caption}{words}");
        // Things are expected to show nobody.
        let faded = dropped.is_some() && prompt.kind != Kind::Other;
        html! {
            @match self.thumbnails.uri(shot) {
                Some(uri) => { img.faded[faded] src=(uri) alt=(alt) title=(alt) loading="lazy"; },
                None => { span.missing title=(alt) {} },
            }
        }
    }

    fn shares(&self, score: &PromptScore, side: usize) -> Markup {
        html! {
            @for axis in &score.axes {
                @if let (Some(shares), Some(values)) = (axis.shares.side(side), self.values(&axis.axis)) {
                    (charts::stacked(&axis.axis, self.colour(&axis.axis), values, shares))
                }
            }
            @let drawn = score.pictures.side(side);
            @if let Some(counts) = drawn {
                p.note {
                    (count(counts.kept, "picture")) " counted"
                    @for axis in &score.axes {
                        @if let Some(number) = axis.numbers.headline() {
                            @if let Some(estimate) = number.hard.side(side) {
                                "; " (axis.axis) " "
                                (shown(estimate.value, number.metric.unit, number.metric.decimals))
                            }
                        }
                    }
                }
            }
        }
    }

    /// The prompt's captions that name values, one picture each.
    fn named(&self, neutral: &Prompt, specific: &[Shown<'_>]) -> Markup {
        let own: Vec<&Prompt> = specific
            .iter()
            .map(|(prompt, _)| *prompt)
            .filter(|p| p.neutral.as_ref() == Some(&neutral.text))
            .filter(|p| !self.thumbnails.shown(p).is_empty())
            .collect();
        if own.is_empty() {
            return html! {};
        }
        html! {
            details.inner {
                summary { "Captions that name who to draw" }
                div.sides {
                    @for &(side, name) in self.sides() {
                        div.(name) { (self.grid(own.iter().copied(), side, name)) }
                    }
                }
            }
        }
    }

    fn named_alone(&self, specific: &[Shown<'_>]) -> Markup {
        html! {
            div.sides {
                @for &(side, name) in self.sides() {
                    div.(name) { (self.grid(specific.iter().map(|(p, _)| *p), side, name)) }
                }
            }
        }
    }
}
