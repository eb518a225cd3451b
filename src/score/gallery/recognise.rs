//! Captions by the axes' templates.

use std::collections::BTreeMap;

use super::folder::{Gallery, Kind, Picture};
use crate::prompts::Axes;

impl Gallery {
    /// Recognises captions by the axes' templates, where the folder doesn't say what they are.
    pub fn recognise(&mut self, axes: &Axes) {
        let templates = Templates::new(axes);
        for picture in &mut self.pictures {
            if picture.kind.is_none() {
                templates.recognise(picture);
            }
        }
    }
}

/// Captions around a subject that may be any text.
struct Templates {
    neutral: [String; 2],
    specific: Vec<(String, String, BTreeMap<String, String>)>,
}

impl Templates {
    fn new(axes: &Axes) -> Self {
        // No caption holds this character, so it marks where the subject stands.
        let split = |caption: &str| {
            let (before, after) = caption.split_once('\u{0}').unwrap_or((caption, ""));
            [before.to_owned(), after.to_owned()]
        };
        let specific = axes.specific("\u{0}").into_iter().map(|s| {
            let [before, after] = split(&s.caption);
            (before, after, s.values)
        });
        Self {
            neutral: split(&axes.neutral("\u{0}")),
            specific: specific.collect(),
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
        let [before, after] = &self.neutral;
        picture.kind = Some(Kind::Specific);
        picture.axes.clone_from(values);
        picture.neutral = Some(format!("{before}{subject}{after}"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
        let templates = Templates::new(&Axes::parse(axes, Path::new("axes.toml")).unwrap());
        let recognised = |prompt: &str| {
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
        };
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
