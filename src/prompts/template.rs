//! Caption templates: text with holes for the prompt and the axes' values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The placeholder for the prompt itself.
pub(super) const PROMPT: &str = "prompt";

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Hole(String),
}

impl Piece {
    fn fill<'a>(&'a self, prompt: &'a str, values: &BTreeMap<&str, &'a str>) -> &'a str {
        match self {
            Piece::Text(text) => text,
            Piece::Hole(name) if name == PROMPT => prompt,
            // Templates are checked against the axes when the file is read.
            Piece::Hole(name) => values.get(name.as_str()).copied().unwrap_or_default(),
        }
    }
}

/// A caption with holes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Reads a template; what is wrong with it otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            if rest[start..].starts_with('}') {
                return Err(format!("`}}` without `{{` in \"{text}\""));
            }
            let end = rest[start..]
                .find('}')
                .ok_or_else(|| format!("`{{` without `}}` in \"{text}\""))?;
            pieces.push(Piece::Text(rest[..start].to_owned()));
            pieces.push(Piece::Hole(rest[start + 1..start + end].trim().to_owned()));
            rest = &rest[start + end + 1..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// What its holes name.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .filter_map(|piece| match piece {
                Piece::Hole(name) => Some(name.as_str()),
                Piece::Text(_) => None,
            })
            .collect()
    }

    /// The caption.
    pub(super) fn fill(&self, prompt: &str, values: &BTreeMap<&str, &str>) -> String {
        let pieces = self.0.iter();
        pieces.map(|piece| piece.fill(prompt, values)).collect()
    }

    /// Where the axes stand in what [`Self::fill`] gives, without the blanks around them; not those
    /// that a value says with nothing.
    pub(super) fn places(
        &self,
        prompt: &str,
        values: &BTreeMap<&str, &str>,
    ) -> BTreeMap<String, Vec<Range<usize>>> {
        let mut places: BTreeMap<String, Vec<Range<usize>>> = BTreeMap::new();
        let mut end = 0;
        for piece in &self.0 {
            let text = piece.fill(prompt, values);
            let start = end + text.len() - text.trim_start().len();
            end += text.len();
            match piece {
                Piece::Hole(name) if name != PROMPT && !text.trim().is_empty() => {
                    let place = start..start + text.trim().len();
                    places.entry(name.clone()).or_default().push(place);
                }
                _ => {}
            }
        }
        places
    }
}
