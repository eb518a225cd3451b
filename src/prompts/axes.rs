//! The axes of a population as data: values, caption templates, what a classifier's labels mean.
//!
//! ```toml
//! [template]
//! neutral = "a photo of a {prompt}"
//! specific = "a photo of a {age} {skin}-skinned {gender} {prompt}"   # or a list of templates
//!
//! [[axis]]
//! name = "gender"
//! values = ["female", "male"]
//! target = [0.5, 0.5]                       # optional; uniform without it
//! text = { female = "woman" }               # optional; how a caption says the value
//! edit = "{value} person"                   # optional; what an edit towards the value says
//! classifier = { output = "gender", labels = { Woman = "female", Man = "male" } }   # optional
//! ```
//!
//! Each `specific` template is expanded over all combinations of the axes it names, so the paper's
//! sets (race × gender, and age alone) are two templates.
//!
//! `{a}` in a template is "a" or "an", as the word after it asks ("an asian female nurse"), and takes
//! the place of the article that the prompt after it begins with: "a nurse in a ward" is "a photo of
//! a nurse in a ward" and "a photo of an old nurse in a ward". A template without it is filled in
//! letter by letter. A value whose text is empty leaves no gap.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::shares::are_shares;
use super::template::{ARTICLE, PROMPT, Template};
use crate::base::fsio;

/// The hole for a value's text in what an edit says.
const VALUE: &str = "value";
/// What an edit says where the file doesn't: Fair Diffusion's "male person", "female person".
const EDIT: &str = "{value} person";

/// Why an axes file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// Not TOML, or keys of the wrong kind.
    #[error("{} is not an axes file", path.display())]
    Toml {
        /// The axes file.
        path: PathBuf,
        /// The parser's reason, with its line.
        source: Box<toml::de::Error>,
    },
    /// A key whose value can't be.
    #[error("{}: {key}: {problem}", path.display())]
    Invalid {
        /// The axes file.
        path: PathBuf,
        /// The key, as in `axis.gender.values`.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    template: RawTemplate,
    #[serde(default)]
    axis: Vec<RawAxis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTemplate {
    neutral: String,
    specific: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAxis {
    name: String,
    values: Vec<String>,
    target: Option<Vec<f64>>,
    #[serde(default)]
    text: BTreeMap<String, String>,
    edit: Option<String>,
    classifier: Option<AxisClassifier>,
}

/// Which output of a classifier chain tells an axis, and what its labels mean.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisClassifier {
    /// The chain's output.
    pub output: String,
    /// The axis' value for each label of that output.
    pub labels: BTreeMap<String, String>,
}

/// One axis of a population.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its name, as in the templates and in `metadata.jsonl`.
    pub name: String,
    /// Its values, at least two.
    pub values: Vec<String>,
    /// The share each value should have; as many as `values`, adding up to 1.
    pub target: Vec<f64>,
    /// How a caption says each value; as many as `values`.
    pub texts: Vec<String>,
    /// What an edit towards each value says; as many as `values`.
    pub edits: Vec<String>,
    /// What tells the axis from a picture, where the file says.
    pub classifier: Option<AxisClassifier>,
}

/// A specific caption and the values it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specific {
    /// The whole caption.
    pub caption: String,
    /// The value of each axis that the caption names.
    pub values: BTreeMap<String, String>,
    /// Where in the caption each of these axes is said, in bytes.
    pub places: BTreeMap<String, Vec<Range<usize>>>,
}

/// Axes and the templates that put them into captions.
#[derive(Debug, Clone, PartialEq)]
pub struct Axes {
    file: PathBuf,
    axes: Vec<Axis>,
    neutral: Template,
    specific: Vec<Template>,
}

impl Axes {
    /// Reads and checks an axes file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&fsio::read_to_string(path)?, path)
    }

    /// Checks the text of an axes file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let raw: RawFile = toml::from_str(text).map_err(|source| Error::Toml {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        Checked { path }.file(raw)
    }

    /// The file, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The axes, in the order of the file.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The axis of that name.
    pub fn axis(&self, name: &str) -> Option<&Axis> {
        self.axes.iter().find(|axis| axis.name == name)
    }

    /// The caption that names no value: "a photo of a doctor".
    pub fn neutral(&self, prompt: &str) -> String {
        self.neutral.fill(prompt, &BTreeMap::new())
    }

    /// Every caption that names values, template by template; within one, the axis that stands
    /// first in the file changes slowest.
    pub fn specific(&self, prompt: &str) -> Vec<Specific> {
        self.specific
            .iter()
            .flat_map(|template| self.expand(template, prompt))
            .collect()
    }

    /// The axes that [`Self::naming`] names, in the order of the file: those of the template with most
    /// of them, the first such.
    pub fn named(&self) -> Vec<&Axis> {
        self.of(self.fullest())
    }

    /// The caption of a prompt that names a value of each of [`Self::named`].
    pub fn naming(&self, prompt: &str, values: &BTreeMap<String, String>) -> String {
        let mut texts = BTreeMap::new();
        for axis in self.named() {
            let value = values.get(&axis.name);
            let place = axis.values.iter().position(|known| Some(known) == value);
            texts.insert(axis.name.as_str(), place.map_or("", |i| &axis.texts[i]));
        }
        self.fullest().fill(prompt, &texts)
    }

    /// The template that names most axes, the first such.
    fn fullest(&self) -> &Template {
        let most = |best, template| match self.of(template).len() > self.of(best).len() {
            true => template,
            false => best,
        };
        self.specific[1..].iter().fold(&self.specific[0], most)
    }

    /// The axes that a template names.
    fn of(&self, template: &Template) -> Vec<&Axis> {
        let named = template.names();
        let axes = self.axes.iter();
        axes.filter(|axis| named.contains(axis.name.as_str()))
            .collect()
    }

    fn expand(&self, template: &Template, prompt: &str) -> Vec<Specific> {
        let axes = self.of(template);
        let count: usize = axes.iter().map(|axis| axis.values.len()).product();
        (0..count)
            .map(|mut index| {
                let mut values = BTreeMap::new();
                let mut texts = BTreeMap::new();
                for axis in axes.iter().rev() {
                    let i = index % axis.values.len();
                    index /= axis.values.len();
                    values.insert(axis.name.clone(), axis.values[i].clone());
                    texts.insert(axis.name.as_str(), axis.texts[i].as_str());
                }
                Specific {
                    caption: template.fill(prompt, &texts),
                    places: template.places(prompt, &texts),
                    values,
                }
            })
            .collect()
    }
}

/// The checks on a file, with its name at hand for messages.
struct Checked<'a> {
    path: &'a Path,
}

impl Checked<'_> {
    fn bad<T>(&self, key: impl Into<String>, problem: impl Into<String>) -> Result<T, Error> {
        Err(Error::Invalid {
            path: self.path.to_path_buf(),
            key: key.into(),
            problem: problem.into(),
        })
    }

    fn file(&self, raw: RawFile) -> Result<Axes, Error> {
        if raw.axis.is_empty() {
            return self.bad("axis", "expected at least one [[axis]]");
        }
        let mut axes: Vec<Axis> = Vec::new();
        for axis in raw.axis {
            if axes.iter().any(|known| known.name == axis.name) {
                return self.bad(format!("axis.{}", axis.name), "stands twice");
            }
            axes.push(self.axis(axis)?);
        }
        let neutral = self.template("template.neutral", &raw.template.neutral, &[])?;
        let texts = match raw.template.specific {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) if !texts.is_empty() => texts,
            OneOrMany::Many(_) => {
                return self.bad("template.specific", "expected at least one template");
            }
        };
        let specific = texts
            .iter()
            .map(|text| self.template("template.specific", text, &axes))
            .collect::<Result<_, _>>()?;
        let file = Axes {
            file: self.path.to_path_buf(),
            axes,
            neutral,
            specific,
        };
        self.captions_differ(&file)?;
        Ok(file)
    }

    fn axis(&self, raw: RawAxis) -> Result<Axis, Error> {
        let key = |field: &str| format!("axis.{}.{field}", raw.name);
        if ["", PROMPT, ARTICLE].contains(&raw.name.as_str()) {
            return self.bad("axis.name", format!("\"{}\" can't be an axis", raw.name));
        }
        let distinct: BTreeSet<_> = raw.values.iter().collect();
        if raw.values.len() < 2 || distinct.len() != raw.values.len() {
            return self.bad(key("values"), "expected two or more different values");
        }
        let target = self.target(&key("target"), raw.target, raw.values.len())?;
        if let Some(value) = raw.text.keys().find(|v| !raw.values.contains(v)) {
            return self.bad(key("text"), format!("\"{value}\" is not one of the values"));
        }
        if let Some(classifier) = &raw.classifier {
            let meant: BTreeSet<_> = classifier.labels.values().collect();
            if let Some(value) = meant.iter().find(|v| !raw.values.contains(v)) {
                let problem = format!("\"{value}\" is not one of the values");
                return self.bad(key("classifier.labels"), problem);
            }
            if let Some(value) = raw.values.iter().find(|v| !meant.contains(v)) {
                let problem = format!("no label means \"{value}\"");
                return self.bad(key("classifier.labels"), problem);
            }
        }
        let text = |value: &String| raw.text.get(value).unwrap_or(value).clone();
        let texts: Vec<String> = raw.values.iter().map(text).collect();
        let edits = self.edits(&key("edit"), raw.edit.as_deref(), &texts)?;
        Ok(Axis {
            name: raw.name,
            values: raw.values,
            target,
            texts,
            edits,
            classifier: raw.classifier,
        })
    }

    /// What edits towards values of these texts say.
    fn edits(&self, key: &str, raw: Option<&str>, texts: &[String]) -> Result<Vec<String>, Error> {
        let text = raw.unwrap_or(EDIT);
        let template = Template::parse(text).or_else(|problem| self.bad(key, problem))?;
        let names: Vec<_> = template
            .names()
            .into_iter()
            .filter(|n| *n != ARTICLE)
            .collect();
        if names != [VALUE] {
            let problem =
                format!("expected a text with {{{VALUE}}}, such as \"{EDIT}\"; got \"{text}\"");
            return self.bad(key, problem);
        }
        let fill = |text: &String| template.fill("", &BTreeMap::from([(VALUE, text.as_str())]));
        Ok(texts.iter().map(fill).collect())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "an axis has a handful of values"
    )]
    fn target(&self, key: &str, raw: Option<Vec<f64>>, count: usize) -> Result<Vec<f64>, Error> {
        let Some(target) = raw else {
            return Ok(vec![1.0 / count as f64; count]);
        };
        if target.len() != count {
            let problem = format!(
                "expected {count} shares, one per value, got {}",
                target.len()
            );
            return self.bad(key, problem);
        }
        if !are_shares(&target) {
            let problem = format!("expected shares in 0..1 that add up to 1, got {target:?}");
            return self.bad(key, problem);
        }
        Ok(target)
    }

    fn template(&self, key: &str, text: &str, axes: &[Axis]) -> Result<Template, Error> {
        let template = Template::parse(text).or_else(|problem| self.bad(key, problem))?;
        let names = template.names();
        if !names.contains(PROMPT) {
            return self.bad(key, format!("\"{text}\" has no {{{PROMPT}}}"));
        }
        let known = |name: &str| {
            [PROMPT, ARTICLE].contains(&name) || axes.iter().any(|axis| axis.name == name)
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let allowed: Vec<_> = std::iter::once(PROMPT)
                .chain(axes.iter().map(|axis| axis.name.as_str()))
                .map(|name| format!("{{{name}}}"))
                .collect();
            let problem = format!(
                "\"{text}\" names the unknown axis {{{unknown}}}; expected one of {}",
                allowed.join(", ")
            );
            return self.bad(key, problem);
        }
        let named = |axis: &Axis| names.contains(axis.name.as_str());
        if !axes.is_empty() && !axes.iter().any(named) {
            return self.bad(key, format!("\"{text}\" names no axis"));
        }
        Ok(template)
    }

    /// Two combinations with one caption could not be told apart later.
    fn captions_differ(&self, axes: &Axes) -> Result<(), Error> {
        let mut seen = BTreeSet::from([axes.neutral("x")]);
        for specific in axes.specific("x") {
            if seen.contains(&specific.caption) {
                let problem = format!("two captions are \"{}\"", specific.caption);
                return self.bad("template.specific", problem);
            }
            seen.insert(specific.caption);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
