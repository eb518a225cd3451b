//! `manifest.json` of a data set: how it was made, how it is laid out, what came out.
//!
//! It is written before the first picture and completed after the last. What it says is only what
//! the bytes of the data set depend on (no times, no paths, no thread counts), so that a folder
//! made in one go and one made in pieces have the same manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::facts::{Difference, Facts, difference};
use crate::family::SizeConditions;
use crate::store::{self, Store};

/// The manifest's file name.
pub const FILE: &str = "manifest.json";

/// The version of the folder's format.
pub const FORMAT: &str = "popalign-dataset-1";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] store::Error),
    /// Not JSON, or not a manifest.
    #[error("{} is not a data set's manifest", path.display())]
    Json {
        /// The manifest.
        path: PathBuf,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A format this version does not know.
    #[error("{} has format `{found}`, expected `{FORMAT}`", path.display())]
    Format {
        /// The manifest.
        path: PathBuf,
        /// The format it names.
        found: String,
    },
    /// The folder was begun with another configuration.
    #[error("{} was begun with another `{key}`: it has {was}, this run has {now}", path.display())]
    Changed {
        /// The manifest.
        path: PathBuf,
        /// The configuration key that differs, as in `config.steps`.
        key: String,
        /// The folder's value.
        was: String,
        /// This run's value.
        now: String,
    },
}

/// Sizes that a reader and a writer of the folder must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Width of the pictures in pixels.
    pub width: usize,
    /// Height of the pictures in pixels.
    pub height: usize,
    /// Channels, height and width of a latent.
    pub latent: [usize; 3],
    /// Tokens and width of `prompt_embeds`.
    pub prompt_embeds: [usize; 2],
    /// Length of `pooled`; absent for models without pooled text conditioning.
    pub pooled: Option<usize>,
    /// How many captions have embeddings.
    pub captions: usize,
    /// How many pictures there are in all; places for some, in a ragged layout.
    pub images: usize,
    /// How many pictures one latents file holds; the last may hold fewer.
    pub unit_images: usize,
    /// What the model was told of the pictures' sizes, where that isn't that they are whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_conditions: Option<SizeConditions>,
    /// Whether any unit may hold fewer pictures than it has places for, or none: each caption begins a
    /// unit, and ends when it has enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ragged: bool,
}

impl Layout {
    /// How many units (latents files) there are.
    pub fn units(&self) -> usize {
        self.images.div_ceil(self.unit_images)
    }

    /// Whether so many pictures make a unit.
    pub fn fits(&self, unit: usize, pictures: usize) -> bool {
        let places = self.unit(unit).len();
        pictures == places || self.ragged && pictures < places
    }

    /// The pictures of one unit, as indices into the whole list.
    pub fn unit(&self, unit: usize) -> std::ops::Range<usize> {
        let start = unit * self.unit_images;
        start..(start + self.unit_images).min(self.images)
    }
}

/// What came out of a finished generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Pictures that passed the filter, or all without one.
    pub kept: usize,
    /// Pictures that did not, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// SHA-256 of each file but the pictures (whose hashes stand in their rows).
    pub sha256: BTreeMap<String, String>,
}

impl Outcome {
    /// How many pictures have rows.
    pub(super) fn rows(&self, layout: &Layout) -> usize {
        match layout.ragged {
            true => self.kept + self.dropped.values().sum::<usize>(),
            false => layout.images,
        }
    }
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// [`FORMAT`].
    pub format: String,
    /// Every option and input that the bytes depend on; inputs by name and SHA-256.
    pub config: Map<String, Value>,
    /// Versions of the programs that made it.
    pub versions: BTreeMap<String, String>,
    /// The folder's sizes.
    pub layout: Layout,
    /// Pictures that share their noise with those that the run's LoRA was trained on, where that is
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with_training: Option<usize>,
    /// What came out; absent while unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl DatasetManifest {
    /// A manifest of a generation about to start.
    pub fn new(
        config: Map<String, Value>,
        versions: BTreeMap<String, String>,
        layout: Layout,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            config,
            versions,
            layout,
            shared_with_training: None,
            outcome: None,
        }
    }

    /// Reads the manifest of a data set.
    pub fn read(store: &Store) -> Result<Self, Error> {
        let path = store.path(FILE);
        let bytes = store.read(FILE)?;
        let json = |source| Error::Json {
            path: path.clone(),
            source,
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(json)?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) | None => serde_json::from_value(value).map_err(json),
            Some(other) => Err(Error::Format {
                path,
                found: other.to_owned(),
            }),
        }
    }

    /// Reads the manifest, if there is one.
    pub fn find(store: &Store) -> Result<Option<Self>, Error> {
        match store.size(FILE)? {
            Some(_) => Self::read(store).map(Some),
            None => Ok(None),
        }
    }

    /// Writes the manifest of a data set.
    pub fn write(&self, store: &Store) -> Result<(), Error> {
        let mut text = serde_json::to_string_pretty(self).map_err(|source| Error::Json {
            path: store.path(FILE),
            source,
        })?;
        text.push('\n');
        Ok(store.write(FILE, text.as_bytes())?)
    }

    /// How many pictures a finished data set has rows of.
    pub fn rows(&self) -> usize {
        let outcome = self.outcome.as_ref();
        outcome.map_or(self.layout.images, |outcome| outcome.rows(&self.layout))
    }

    /// Whether the pictures that the filter drops are deleted.
    pub fn deletes_dropped(&self) -> bool {
        self.config
            .get("rejected")
            .is_some_and(|value| value == "delete")
    }

    /// Checks that `now`, a run about to go on with the data set, would make the same bytes.
    pub fn same_run(&self, now: &Self, store: &Store) -> Result<(), Error> {
        let facts = |m: &Self| -> Facts {
            let config = m
                .config
                .iter()
                .map(|(k, v)| (format!("config.{k}"), v.to_string()));
            let versions = m
                .versions
                .iter()
                .map(|(k, v)| (format!("versions.{k}"), v.clone()));
            let layout = std::iter::once(("layout".to_owned(), format!("{:?}", m.layout)));
            config.chain(versions).chain(layout).collect()
        };
        match difference(&facts(self), &facts(now)) {
            None => Ok(()),
            Some(Difference { key, was, now }) => Err(Error::Changed {
                path: store.path(FILE),
                key: key.strip_prefix("config.").unwrap_or(&key).to_owned(),
                was,
                now,
            }),
        }
    }
}
