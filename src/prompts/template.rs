//! A caption with holes for the prompt and for what the axes say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::article::{article, without_article};

/// The hole for the prompt itself.
pub(super) const PROMPT: &str = "prompt";

/// The hole for "a" or "an".
pub(super) const ARTICLE: &str = "a";

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Hole(String),
}

/// The text of a template, parted at its holes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    /// Parts a text at its holes; the problem, if braces don't pair.
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

    /// The holes.
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
        self.write(prompt, values).0
    }

    /// Where the axes stand in what [`Self::fill`] gives, without the blanks around them; not those
    /// that a value says with nothing.
    pub(super) fn places(
        &self,
        prompt: &str,
        values: &BTreeMap<&str, &str>,
    ) -> BTreeMap<String, Vec<Range<usize>>> {
        let mut places: BTreeMap<String, Vec<Range<usize>>> = BTreeMap::new();
        for (axis, place) in self.write(prompt, values).1 {
            places.entry(axis.to_owned()).or_default().push(place);
        }
        places
    }

    /// The caption and the places of its values, written from its end: an article depends on what
    /// follows.
    fn write(
        &self,
        prompt: &str,
        values: &BTreeMap<&str, &str>,
    ) -> (String, Vec<(&str, Range<usize>)>) {
        let prompt = match self.writes_the_prompts_article() {
            true => without_article(prompt),
            false => prompt,
        };
        let mut caption = String::new();
        // Of each value, how far its beginning and its end are from the caption's end.
        let mut found = Vec::new();
        let mut gaps = false;
        for piece in self.0.iter().rev() {
            let (said, axis) = match piece {
                Piece::Text(text) => (text.as_str(), None),
                Piece::Hole(name) if name == PROMPT => (prompt, None),
                Piece::Hole(name) if name == ARTICLE => (article(&caption), None),
                // Templates are checked against the axes when the file is read.
                Piece::Hole(name) => {
                    let value = values.get(name.as_str()).copied();
                    (value.unwrap_or_default(), Some(name.as_str()))
                }
            };
            if said.is_empty() && matches!(piece, Piece::Hole(_)) {
                gaps = true;
                if caption.starts_with(' ') {
                    caption.remove(0);
                }
            }
            if let Some(axis) = axis.filter(|_| !said.trim().is_empty()) {
                let (begin, end) = (said.trim_start().len(), said.len() - said.trim_end().len());
                found.push((axis, caption.len() + begin, caption.len() + end));
            }
            caption.insert_str(0, said);
        }
        let length = caption.len();
        let before = match gaps {
            true => length - caption.trim_start().len(),
            false => 0,
        };
        let place = |(axis, begin, end)| (axis, length - begin - before..length - end - before);
        let found = found.into_iter().rev().map(place).collect();
        match gaps {
            true => (caption.trim().to_owned(), found),
            false => (caption, found),
        }
    }

    fn writes_the_prompts_article(&self) -> bool {
        let place = |hole: &str| {
            let is = |piece: &Piece| matches!(piece, Piece::Hole(name) if name == hole);
            self.0.iter().position(is)
        };
        matches!((place(ARTICLE), place(PROMPT)), (Some(a), Some(prompt)) if a < prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, prompt: &str, value: &str) -> String {
        let values = BTreeMap::from([("who", value)]);
        Template::parse(template).unwrap().fill(prompt, &values)
    }

    #[test]
    fn places_are_those_of_values_in_the_caption() {
        for (template, value, expected) in [
            ("of {a} {who} {prompt}", "old", vec!["old"]),
            (
                "{who} {prompt} {who}",
                " very old ",
                vec!["very old", "very old"],
            ),
            ("{who} {prompt} {who}", "", vec![]),
            ("{gap} {prompt}, {a} {who} one", "old", vec!["old"]),
            ("{prompt} {who} {gap}", "ältere", vec!["ältere"]),
        ] {
            let template = Template::parse(template).unwrap();
            let values = BTreeMap::from([("who", value), ("gap", "")]);
            let caption = template.fill("an actor", &values);
            let places = template.places("an actor", &values).remove("who");
            let said = places.unwrap_or_default().into_iter();
            let said: Vec<&str> = said.map(|place| &caption[place]).collect();
            assert_eq!(said, expected, "{caption}");
        }
    }

    #[test]
    fn an_article_takes_the_place_of_the_prompts_own() {
        for (template, prompt, value, expected) in [
            ("of {a} {who} {prompt}", "a cook", "old", "of an old cook"),
            (
                "of {a} {who} {prompt}",
                "an actor",
                "young",
                "of a young actor",
            ),
            ("of {a} {who} {prompt}", "cook", "old", "of an old cook"),
            ("of {a} {who} {prompt}", "an actor", "", "of an actor"),
            ("of {a} {who} {prompt}", "A couple", "", "of a couple"),
            (
                "of { a } {who}-ish {prompt}",
                "a cook",
                "Old",
                "of an Old-ish cook",
            ),
            // Not before the prompt, or not asked for.
            (
                "{prompt} with {a} {who} cat",
                "a cook",
                "old",
                "a cook with an old cat",
            ),
            ("of a {who} {prompt}", "a cook", "old", "of a old a cook"),
            ("of a {who} {prompt}", "cook", "", "of a cook"),
            ("{who} {prompt} {who}", "cook", "", "cook"),
        ] {
            assert_eq!(fill(template, prompt, value), expected, "{template}");
        }
    }
}
