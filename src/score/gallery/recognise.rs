//! Captions by the axes' templates.

use std::collections::{BTreeMap, HashSet};

use super::folder::{Gallery, Kind, Picture};
use crate::prompts::Axes;

impl Gallery {
    /// Recognises captions by the axes' templates, where the folder doesn't say what they are.
    pub fn recognise(&mut self, axes: &Axes) {
        let captions = self.pictures.iter().map(|picture| picture.prompt.clone());
        let templates = Templates::new(axes, captions.collect());
        for picture in &mut self.pictures {
            if picture.kind.is_none() {
                templates.recognise(picture);
            }
        }
    }
}

/// Where the subject stands in a caption: no caption holds the character. With the vowel, after "an".
const MARKS: [&str; 2] = ["\u{0}", "o\u{0}"];

/// Captions around a subject that may be any text.
struct Templates<'a> {
    axes: &'a Axes,
    specific: Vec<(String, String, BTreeMap<String, String>)>,
    /// All captions of the folder.
    captions: HashSet<String>,
}

impl<'a> Templates<'a> {
    fn new(axes: &'a Axes, captions: HashSet<String>) -> Self {
        let mut specific = Vec::new();
        for mark in MARKS {
            for said in axes.specific(mark) {
                let parts = said.caption.split_once(mark);
                let (before, after) = parts.unwrap_or((&said.caption, ""));
                specific.push((before.to_owned(), after.to_owned(), said.values));
            }
        }
        Self {
            axes,
            specific,
            captions,
        }
    }

    fn recognise(&self, picture: &mut Picture) {
        let subject = |before: &str, after: &str| {
            let rest = picture.prompt.strip_prefix(before)?.strip_suffix(after)?;
            (!rest.is_empty()).then(|| rest.to_owned())
        };
        // The caption that leaves the shortest subject names the most: "a photo of a dark old
        // man" is also what the neutral template says of the subject "dark old man".
        let named = self
            .specific
            .iter()
            .filter_map(|(before, after, values)| Some((subject(before, after)?, values)));
        let Some((subject, values)) = named.min_by_key(|(subject, _)| subject.len()) else {
            return;
        };
        picture.kind = Some(Kind::Specific);
        picture.axes.clone_from(values);
        picture.neutral = Some(self.neutral(&subject));
    }

    /// The neutral caption of a subject. Where a template wrote the prompt's article, the subject
    /// lacks it: the folder's captions tell whether the prompt had one.
    fn neutral(&self, subject: &str) -> String {
        let plain = self.axes.neutral(subject);
        if self.captions.contains(&plain) {
            return plain;
        }
        let articled = ["a", "an"].map(|a| self.axes.neutral(&format!("{a} {subject}")));
        let found = articled.into_iter().find(|c| self.captions.contains(c));
        found.unwrap_or(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn axes_of(text: &str) -> Axes {
        Axes::parse(text, Path::new("axes.toml")).unwrap()
    }

    fn recognised(templates: &Templates, prompt: &str) -> (Option<Kind>, String, Option<String>) {
        let mut picture = Picture {
            name: "a.png".into(),
            prompt: prompt.into(),
            kind: None,
            axes: BTreeMap::new(),
            neutral: None,
            key: "a.png".into(),
        };
        templates.recognise(&mut picture);
        let values: Vec<String> = picture.axes.into_values().collect();
        (picture.kind, values.join(" "), picture.neutral)
    }

    #[test]
    fn captions_with_articles_are_recognised() {
        let axes = axes_of(
            r#"
            [template]
            neutral = "best quality, a photo of {prompt}"
            specific = "a photo of {a} {who} {prompt}"
            [[axis]]
            name = "who"
            values = ["straight", "old"]
            text = { straight = "" }
        "#,
        );
        let prompts = ["a cook at home", "an actor", "engineer"];
        let captions = prompts.map(|prompt| axes.neutral(prompt));
        let templates = Templates::new(&axes, captions.into());
        for prompt in prompts {
            for said in axes.specific(prompt) {
                let expected = (
                    Some(Kind::Specific),
                    said.values["who"].clone(),
                    Some(axes.neutral(prompt)),
                );
                let found = recognised(&templates, &said.caption);
                assert_eq!(found, expected, "{}", said.caption);
            }
        }
        let unknown = recognised(&templates, "a photo of an old judge").2;
        assert_eq!(unknown.unwrap(), "best quality, a photo of judge");
    }

    #[test]
    fn captions_are_recognised_by_the_templates() {
        let axes = r#"
            [template]
            neutral = "a photo of a {prompt}"
            specific = ["a photo of a {age} {gender} {prompt}", "a photo of a {age} {prompt}"]
            [[axis]]
            name = "gender"
            values = ["female", "male"]
            [[axis]]
            name = "age"
            values = ["young", "old"]
        "#;
        let axes = axes_of(axes);
        let templates = Templates::new(&axes, HashSet::new());
        let recognised = |prompt: &str| recognised(&templates, prompt);
        let neutral = Some("a photo of a head chef".to_owned());
        let specific = Some(Kind::Specific);
        assert_eq!(
            recognised("a photo of a old male head chef"),
            (specific, "old male".into(), neutral.clone())
        );
        assert_eq!(
            recognised("a photo of a young head chef"),
            (specific, "young".into(), neutral)
        );
        assert_eq!(
            recognised("a photo of a head chef"),
            (None, String::new(), None)
        );
        assert_eq!(recognised("a house"), (None, String::new(), None));
    }
}
