//! Captions that are too long for the model's text encoders: what they lose is told, and one that loses
//! a value it was to name is refused, for its pictures would pass for people that nobody asked for.

use super::error::Cut;
use super::{Error, Result};
use crate::diffusion::lost::Tokenizers;
use crate::prompts::Axes;
use crate::prompts::axes::Specific;

/// Refuses specific captions that lose a value's text, or a part of it. One that says a value twice
/// may lose it once.
pub(super) fn refuse(tokenizers: &Tokenizers, prompts: &[String], axes: &Axes) -> Result<()> {
    for prompt in prompts {
        for specific in axes.specific(prompt) {
            let kept = tokenizers.kept(&specific.caption)?;
            if let Some((axis, word)) = lost(&specific, kept) {
                return Err(Error::Cut(Box::new(Cut {
                    axes: axes.file().to_path_buf(),
                    axis: axis.to_owned(),
                    word: word.to_owned(),
                    tokens: tokenizers.length(),
                    lost: specific.caption[kept..].trim().to_owned(),
                    prompt: prompt.clone(),
                    caption: specific.caption.clone(),
                })));
            }
        }
    }
    Ok(())
}

/// The first value in the caption that isn't seen, as its axis and how the caption says it.
fn lost(specific: &Specific, kept: usize) -> Option<(&str, &str)> {
    let gone = specific.places.iter().filter_map(|(axis, places)| {
        let first = places.first()?.clone();
        let seen = places.iter().any(|place| place.end <= kept);
        (!seen).then_some((first.start, axis.as_str(), &specific.caption[first]))
    });
    gone.min().map(|(_, axis, word)| (axis, word))
}
