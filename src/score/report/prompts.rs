//! The report's pictures: of every prompt before and after, the same seeds side by side.

use maud::{Markup, html};

use super::Context;
use super::charts;
use super::words::{capital, count, number, percent, reason};
use crate::score::gallery::Kind;
use crate::score::population::Prompt;
use crate::score::scores::PromptScore;

/// Prompts whose pictures are open from the start.
const OPEN: usize = 3;

/// One prompt and its scores.
type Shown<'a> = (&'a Prompt, &'a PromptScore);

impl Context<'_> {
    fn of_kind(&self, kind: Kind) -> Vec<Shown<'_>> {
        let prompts = self.report.scored.population.prompts.iter();
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

    fn pair_of_grids(&self, prompt: &Prompt, score: Option<&PromptScore>) -> Markup {
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
        let scored = self.report.scored;
        let Some(shot) = scored.population.slots[slot].shots[side] else {
            return html! { span.missing {} };
        };
        let dropped = scored.looks.dropped(shot);
        let words = match dropped {
            Some(why) => format!("not counted: {}", reason(&why.to_string())),
            None => {
                let attributes = scored.looks.attributes(shot);
                let single = scored.scales.iter().filter(|s| !s.name.contains('+'));
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
                        @if let Some(d) = axis.discrepancy.side(side) {
                            "; " (axis.axis) " " (number(d.value, 2))
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

    /// Prompts that are not about people.
    pub(super) fn things(&self) -> Markup {
        let others = self.of_kind(Kind::Other);
        if others.is_empty() {
            return html! {};
        }
        let similarity = self.scores.similarity.as_ref();
        let similarity = similarity.and_then(|s| s.get(Kind::Other.name()));
        html! {
            section #things {
                h2 { "Pictures of other things" }
                @if let Some(similarity) = similarity {
                    p {
                        "Alignment should leave these alone. Of "
                        (count(similarity.pairs, "pair")) " of pictures with the same seed, "
                        @if let Some(pixels) = &similarity.pixel_difference {
                            "pixels differ by " (percent(pixels.value, 1)) " of their range on average"
                        }
                        @if let Some(cosine) = &similarity.clip_cosine {
                            ", and the cosine of their CLIP embeddings is " (number(cosine.value, 3))
                        }
                        "." (self.people_differ())
                    }
                }
                @for &(prompt, score) in &others {
                    @if !self.thumbnails.shown(prompt).is_empty() {
                        div.prompt.thing {
                            h3 { (prompt.text)
                                @if let Some(d) = score.pixel_difference {
                                    small { "pixels differ by " (percent(d, 1)) }
                                }
                                @if let Some(words) = self.people_in(score) { small { (words) } }
                            }
                            (self.pair_of_grids(prompt, None))
                        }
                    }
                }
            }
        }
    }

    /// In how many pictures of a thing somebody stands, if in any.
    fn people_in(&self, score: &PromptScore) -> Option<String> {
        let sides = self.sides().iter();
        let counts = sides.filter_map(|&(side, _)| score.pictures.side(side));
        let counts: Vec<_> = counts.collect();
        if counts.iter().all(|c| c.kept == 0) {
            return None;
        }
        let words = counts.iter().map(|c| format!("{} of {}", c.kept, c.files));
        let words: Vec<String> = words.collect();
        Some(format!("a person in {}", words.join(" → ")))
    }

    fn people_differ(&self) -> String {
        let similarity = self.scores.similarity.as_ref();
        let neutral = similarity.and_then(|s| s.get(Kind::Neutral.name()));
        let pixels = neutral.and_then(|s| s.pixel_difference);
        pixels.map_or_else(String::new, |pixels| {
            let share = percent(pixels.value, 1);
            format!(" In pictures of people for neutral prompts they differ by {share}.")
        })
    }
}
