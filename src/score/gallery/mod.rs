//! Folders of pictures, whoever made them.
//!
//! What a folder says about its pictures is looked for in this order:
//!
//! 1. `metadata.jsonl` or `metadata.csv`, as in Hugging Face's imagefolders: `file_name`, and the
//!    caption in `prompt`, `text` or `caption`. Our data sets are such folders, with more columns
//!    (kind, axes, seed, image id).
//! 2. A `.json` beside a picture (`{"file_path": …, "prompt": …}`), as PopAlign's scripts write.
//! 3. The folder that a picture stands in: its name is the prompt. A flat folder is one group.
//!
//! Where nothing says whether a caption names a value of an axis, the axes file's templates do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::prompts::Axes;

mod table;
mod walk;

/// What a picture is evidence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Its caption names no value of any axis: the population the model draws by itself.
    Neutral,
    /// Its caption names values: whether the model obeys.
    Specific,
    /// It is not about people: whether the model still draws the same. A caption is taken for
    /// this where nothing says what it is and most of its pictures show nobody.
    Other,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 3] = [Kind::Neutral, Kind::Specific, Kind::Other];

    /// Its name in `scores.json`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Neutral => "neutral",
            Kind::Specific => "specific",
            Kind::Other => "other",
        }
    }
}

/// How a folder says what its pictures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A data set of `pa-datagen`.
    Dataset,
    /// An imagefolder with a table.
    Imagefolder,
    /// Pictures with a `.json` beside each.
    Sidecars,
    /// Folders named by prompts.
    Folders,
}

/// One picture, before it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its file, relative to the folder, with `/`.
    pub name: String,
    /// Its caption.
    pub prompt: String,
    /// What it is evidence of; nothing where the folder doesn't say.
    pub kind: Option<Kind>,
    /// The values its caption names.
    pub axes: BTreeMap<String, String>,
    /// The caption that names no value, for the same subject.
    pub neutral: Option<String>,
    /// What pairs it with a picture of the other side: seed and number, or the file's name.
    pub key: String,
}

/// A folder of pictures.
#[derive(Debug, Clone)]
pub struct Gallery {
    /// The folder, as it was given.
    pub dir: PathBuf,
    /// How it says what its pictures are.
    pub layout: Layout,
    /// Its pictures, in the order of the table or of their names.
    pub pictures: Vec<Picture>,
    /// Rows of pictures that were not kept as files.
    pub without_files: usize,
    /// The LoRA and other options it was made with, where it says.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Gallery {
    /// Looks into a folder.
    ///
    /// # Errors
    /// [`Error::NoFolder`], [`Error::Empty`], [`Error::Unfinished`], [`Error::Row`].
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::NoFolder {
                dir: dir.to_path_buf(),
            });
        }
        let gallery = match table::read(dir)? {
            Some(gallery) => gallery,
            None => walk::read(dir)?,
        };
        if gallery.pictures.is_empty() {
            return Err(Error::Empty {
                dir: dir.to_path_buf(),
                without_files: gallery.without_files > 0,
            });
        }
        Ok(gallery)
    }

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
