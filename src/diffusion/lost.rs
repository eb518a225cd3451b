//! What captions lose: a text encoder sees 77 tokens, and of a longer caption only the beginning.

use std::fmt;

use serde::Serialize;

use super::text::{self, Error, TextShape};
use super::tokenizer::Tokenizer;
use crate::bundle::Bundle;

/// Captions named of a list; the others are counted.
const NAMED: usize = 3;

/// A model's tokenizers, to look at captions before anything is encoded.
#[derive(Debug)]
pub struct Tokenizers {
    all: Vec<Tokenizer>,
    length: usize,
}

impl Tokenizers {
    /// Reads those of the text encoders that a bundle uses.
    ///
    /// # Errors
    /// A part or tokenizer that is missing.
    pub fn open(bundle: &Bundle) -> Result<Self, Error> {
        let shape = TextShape::of(bundle)?;
        let encoders = text::encoders(bundle, shape.family)?.into_iter();
        let all = encoders.map(|(encoder, _)| text::tokenizer(bundle, encoder, shape));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            length: shape.tokens,
        })
    }

    /// Tokens that a text encoder sees, start and end among them.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How many bytes of a caption every text encoder sees; all unless it is too long for one.
    ///
    /// # Errors
    /// A caption that can't be tokenized.
    pub fn kept(&self, caption: &str) -> Result<usize, Error> {
        let mut least = caption.len();
        for tokenizer in &self.all {
            least = least.min(tokenizer.encode(caption)?.kept);
        }
        Ok(least)
    }

    /// What a list of captions loses.
    ///
    /// # Errors
    /// A caption that can't be tokenized.
    pub fn lost<'a>(&self, captions: impl Iterator<Item = &'a str>) -> Result<Lost, Error> {
        let mut lost = Lost {
            tokens: self.length,
            ..Lost::default()
        };
        for caption in captions {
            lost.of += 1;
            let kept = self.kept(caption)?;
            if kept < caption.len() {
                lost.add(caption, kept);
            }
        }
        Ok(lost)
    }
}

/// The captions of a list that are too long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// How many.
    pub captions: usize,
    /// Of how many.
    pub of: usize,
    /// Tokens that a text encoder sees.
    pub tokens: usize,
    /// The first of them.
    pub first: Vec<Cut>,
}

/// A caption that is too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The caption.
    pub prompt: String,
    /// Its end that a text encoder doesn't see, as it is written.
    pub lost: String,
}

impl Lost {
    fn add(&mut self, caption: &str, kept: usize) {
        self.captions += 1;
        if self.first.len() < NAMED {
            self.first.push(Cut {
                prompt: caption.to_owned(),
                lost: caption[kept..].trim().to_owned(),
            });
        }
    }
}

impl fmt::Display for Lost {
    /// "1 of 3 captions is too long for the text encoder's 77 tokens and loses its end: "x" of "…"".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            captions,
            of,
            tokens,
            first,
        } = self;
        let (are, lose) = match captions {
            1 => ("is", "loses its"),
            _ => ("are", "lose their"),
        };
        write!(
            f,
            "{captions} of {of} captions {are} too long for the text encoder's {tokens} tokens and \
             {lose} end: "
        )?;
        let named: Vec<String> = first
            .iter()
            .map(|cut| format!("{:?} of {:?}", cut.lost, cut.prompt))
            .collect();
        f.write_str(&named.join(", "))?;
        match captions - first.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_captions_are_named_and_the_others_counted() {
        let mut lost = Lost {
            of: 9,
            tokens: 77,
            ..Lost::default()
        };
        lost.add("a cook in a garden", 6);
        assert_eq!(
            lost.to_string(),
            "1 of 9 captions is too long for the text encoder's 77 tokens and loses its end: \"in a \
             garden\" of \"a cook in a garden\""
        );
        for _ in 0..4 {
            lost.add("é x", 2);
        }
        let text = lost.to_string();
        assert!(text.starts_with("5 of 9 captions are too long"), "{text}");
        assert!(text.ends_with("\"x\" of \"é x\", and 2 more"), "{text}");
        assert_eq!(lost.first.len(), NAMED);
    }
}
