//! The report's table for a model card: Markdown between the marks of `pa-finetune`'s README.md.

use std::path::{Path, PathBuf};

use super::words::{capital, count, shown};
use crate::align::publish::{FIGURES, put_figures};
use crate::base::fsio;
use crate::score::bootstrap::Estimate;
use crate::score::figures::{Figure, Of};
use crate::score::metrics::metric::{Metric, Shape};
use crate::score::scores::Scores;
use crate::score::{Error, Result};

/// A model card that can take the table.
#[derive(Debug)]
pub struct Card {
    path: PathBuf,
    text: String,
}

impl Card {
    /// Reads a card.
    ///
    /// # Errors
    /// It can't be read, or lacks the marks ([`Error::Card`]).
    pub fn open(path: &Path) -> Result<Self> {
        let text = fsio::read_to_string(path)?;
        match put_figures(&text, "") {
            Some(_) => Ok(Self {
                path: path.to_path_buf(),
                text,
            }),
            None => Err(Error::Card {
                path: path.to_path_buf(),
                marks: FIGURES,
            }),
        }
    }

    /// Puts the table of these scores into it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, scores: &Scores) -> Result<()> {
        let text = put_figures(&self.text, &table(scores)).unwrap_or_default();
        Ok(fsio::write(&self.path, text)?)
    }
}

/// The numbers of the run as a whole, a line each, and what they are of.
fn table(scores: &Scores) -> String {
    let figures = scores.figures();
    let compared = figures.iter().any(|figure| figure.sided.against.is_some());
    let mut text = match compared {
        true => "| | before | after | no bias |\n| --- | --- | --- | --- |\n".to_owned(),
        false => "| | value | no bias |\n| --- | --- | --- |\n".to_owned(),
    };
    for figure in figures {
        let show = |estimate: &Option<Estimate>| {
            estimate
                .as_ref()
                .map_or_else(String::new, |e| cell(figure.metric, e))
        };
        text += &format!("| {} |", name(&figure));
        if compared {
            text += &format!(" {} |", show(&figure.sided.against));
        }
        text += &format!(
            " {} | {} |\n",
            show(&figure.sided.scored),
            floor(scores, &figure)
        );
    }
    let pictures = count(
        scores.pictures.scored.as_ref().map_or(0, |c| c.files),
        "picture",
    );
    let prompts = count(scores.prompts.len(), "caption");
    text + &format!(
        "\n{pictures} of {prompts}, judged by the classifier chain {} (popalign {}). In brackets: 95 % \
         bootstrap intervals over captions and pictures. *No bias*: what pictures of exactly the target's \
         shares would measure on average, were there as few.",
        scores.chain.name,
        env!("CARGO_PKG_VERSION"),
    )
}

/// "Discrepancy of gender".
fn name(figure: &Figure<'_>) -> String {
    match (figure.of, &figure.metric.shape) {
        (Of::Axis(axis), _) => format!("{} of {axis}", capital(figure.metric.title)),
        (Of::AllAxes, Shape::Axes(axes)) => {
            let joined = axes.joined.as_ref();
            capital(joined.map_or(figure.metric.title, |joined| joined.title))
        }
        _ => capital(figure.metric.title),
    }
}

/// "0.19 [0.12, 0.30]".
fn cell(metric: &Metric, estimate: &Estimate) -> String {
    let show = |value| shown(value, metric.unit, metric.decimals);
    match estimate.interval() {
        Some((low, high)) => format!("{} [{}, {}]", show(estimate.value), show(low), show(high)),
        None => show(estimate.value),
    }
}

/// What a population without a bias would score, where that can be said.
fn floor(scores: &Scores, figure: &Figure<'_>) -> String {
    let Of::Axis(axis) = figure.of else {
        return String::new();
    };
    let own = scores.axes.iter().find(|own| own.axis == axis);
    let number = own.and_then(|own| own.numbers.of(figure.metric));
    let floor = number.and_then(|number| number.floor_of(0));
    floor.map_or_else(String::new, |floor| {
        shown(floor, figure.metric.unit, figure.metric.decimals)
    })
}
