//! The whole report, section by section.

use std::path::Path;

use maud::{Markup, html};

use super::context::Context;
use super::thumbnails::Thumbnails;
use crate::align::log::Line;
use crate::base::fsio;
use crate::score::Result;
use crate::score::human::Agreement;
use crate::score::page::page;
use crate::score::request::Scored;

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
            scored: self.scored,
            scores: &self.scored.scores,
            training: self.training,
            human: self.human,
            thumbnails: Thumbnails::choose(self.scored, self.picture_budget)?,
        };
        Ok(page("Population report", &body(&context)))
    }
}

fn body(context: &Context<'_>) -> Markup {
    html! {
        header { (context.headline()) }
        main {
            (context.key_figures())
            (context.portraits())
            (context.axes())
            (context.obeyed())
            (context.quality())
            (context.things())
            (context.dropped())
            (context.training())
            (context.people())
            (context.method())
        }
        footer {
            p { "Made by pa-score " (env!("CARGO_PKG_VERSION")) ". Nothing on this page is "
                "loaded from anywhere else." }
        }
    }
}
