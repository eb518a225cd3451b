//! The report's section on pictures that are not about people.

use maud::{Markup, html};

use super::context::Context;
use super::words::{count, shown};
use crate::score::gallery::Kind;
use crate::score::metrics::metric::{Each, Metric, Pairs, Shape};
use crate::score::scores::{PromptScore, Similarity};

impl Context<'_> {
    /// Prompts that are not about people.
    pub(super) fn things(&self) -> Markup {
        let others = self.of_kind(Kind::Other);
        if others.is_empty() {
            return html! {};
        }
        html! {
            section #things {
                h2 { "Pictures of other things" }
                @if let Some(similarity) = self.similarity(Kind::Other) {
                    p {
                        "Alignment should leave these alone. Of "
                        (count(similarity.pairs, "pair")) " of pictures with the same seed, "
                        (differences(similarity)) "." (self.people_differ())
                        @if similarity.unpaired > 0 {
                            " " (count(similarity.unpaired, "picture")) " made no pair: the other "
                            "side has none, or one of the two can't be read."
                        }
                    }
                }
                @for &(prompt, score) in &others {
                    @if !self.thumbnails.shown(prompt).is_empty() {
                        div.prompt.thing {
                            h3 { (prompt.text)
                                @for (metric, value) in &score.pairs.0 {
                                    @if let Some(each) = each(metric) {
                                        small { (said(metric, each.prompt, *value)) }
                                    }
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

    fn similarity(&self, kind: Kind) -> Option<&Similarity> {
        self.scores.similarity.as_ref()?.get(kind.name())
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

    /// The same numbers of pictures of people, after those of things.
    fn people_differ(&self) -> String {
        let numbers = self.similarity(Kind::Neutral).into_iter();
        let sentences = numbers
            .flat_map(|s| &s.numbers.0)
            .filter_map(|(metric, estimate)| {
                let words = said(metric, each(metric)?.people, estimate.value);
                Some(format!(" {words}"))
            });
        sentences.collect()
    }
}

/// The numbers of pairs in one sentence.
fn differences(similarity: &Similarity) -> String {
    let numbers = similarity.numbers.0.iter();
    let words = numbers
        .filter_map(|(metric, estimate)| Some(said(metric, pairs(metric)?.things, estimate.value)));
    words.collect::<Vec<_>>().join(", and ")
}

fn pairs(metric: &'static Metric) -> Option<&'static Pairs> {
    match &metric.shape {
        Shape::Pairs(pairs) => Some(pairs),
        _ => None,
    }
}

fn each(metric: &'static Metric) -> Option<&'static Each> {
    pairs(metric)?.each.as_ref()
}

/// Words around a metric's number.
fn said(metric: &Metric, words: &str, value: f64) -> String {
    words.replace("{}", &shown(value, metric.unit, metric.decimals))
}
