//! `report.html`: the scores for people, in one file that loads nothing from anywhere.
//!
//! Charts are HTML boxes in percent rather than drawings, so that their text keeps its size on a
//! phone; only the training curves are SVG. Every chart has its numbers in a table beside it.

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Result;
use super::human::Agreement;
use super::run::Scored;
use super::scores::Scores;
use crate::align::log::Line;
use crate::base::fsio;

mod charts;
mod headline;
mod method;
mod prompts;
mod sections;
mod thumbnails;
mod training;
mod words;

use thumbnails::Thumbnails;
pub(in crate::score) use thumbnails::data_uri;

/// The page's style.
pub(in crate::score) const STYLE: &str = include_str!("style.css");

/// What a report shows.
#[derive(Debug)]
pub struct Report<'a> {
    /// The result of the run.
    pub scored: &'a Scored,
    /// The training log.
    pub training: Option<&'a [Line]>,
    /// What people said.
    pub human: Option<&'a Agreement>,
    /// Most bytes of pictures.
    pub picture_budget: usize,
}

/// Pictures take this much at most, unless asked otherwise: the page opens at once, and can be
/// sent by mail.
pub const PICTURE_BUDGET: usize = 5 << 20;

/// What a section is written from.
struct Context<'a> {
    report: &'a Report<'a>,
    scores: &'a Scores,
    thumbnails: Thumbnails<'a>,
}

impl Report<'_> {
    /// Writes the report.
    ///
    /// # Errors
    /// A thumbnail can't be made, or the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let page = self.render()?;
        Ok(fsio::write(path, page.into_string())?)
    }

    /// The report's HTML.
    ///
    /// # Errors
    /// A thumbnail can't be made.
    pub fn render(&self) -> Result<Markup> {
        let context = Context {
            scores: &self.scored.scores,
            thumbnails: Thumbnails::choose(self.scored, self.picture_budget)?,
            report: self,
        };
        Ok(page(&context.title(), &context.body()))
    }
}

/// A whole page around some content.
pub(in crate::score) fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

impl Context<'_> {
    fn title(&self) -> String {
        "Population report".to_owned()
    }

    fn body(&self) -> Markup {
        html! {
            header { (self.headline()) }
            main {
                (self.key_figures())
                (self.portraits())
                (self.discrepancy())
                (self.recall())
                (self.quality())
                (self.things())
                (self.dropped())
                (self.training())
                (self.people())
                (self.method())
            }
            footer {
                p { "Made by pa-score " (env!("CARGO_PKG_VERSION")) ". Nothing on this page is "
                    "loaded from anywhere else." }
            }
        }
    }

    /// Whether there is something to compare with.
    fn compared(&self) -> bool {
        self.report.scored.population.compared
    }

    /// The sides, in the order they are read: before, then after.
    fn sides(&self) -> &'static [(usize, &'static str)] {
        match self.compared() {
            true => &[(1, "before"), (0, "after")],
            false => &[(0, "pictures")],
        }
    }

    /// The values of an axis.
    fn values(&self, axis: &str) -> Option<&[String]> {
        let axes = self.scores.axes.iter();
        let mut axes = axes.filter(|a| a.axis == axis);
        axes.next().map(|a| a.values.as_slice())
    }

    /// The colour of an axis' first value: the one after those of the axes before it.
    fn colour(&self, axis: &str) -> usize {
        let before = self.scores.axes.iter().take_while(|a| a.axis != axis);
        before.map(|a| a.values.len()).sum()
    }
}
