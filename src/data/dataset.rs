//! The folder that generation leaves behind, as training and scoring read it.
//!
//! ```text
//! manifest.json               how it was made, sizes, counts, SHA-256s
//! metadata.jsonl              one row per picture, in a fixed order
//! text.safetensors            per caption: prompt_embeds.ID, pooled.ID (its id in 8 hex digits)
//! latents-NNNNN.safetensors   `latents` [n, C, h, w] f32, scaled as the UNet sees them
//! images/*.png                the pictures, unless made with --format none
//! rejected.jsonl              the rows of pictures that were deleted, with --rejected delete
//! ```
//!
//! With the pictures it is a Hugging Face `imagefolder`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use super::error::{Error, FETCH};
use super::manifest::{self, DatasetManifest};
use crate::base::{fsio, json};
use crate::family::{SizeConditions, TIME_IDS};
use crate::judge::reading::Readings;
use crate::prompts::caption_id;
use crate::store::Store;
use crate::tensors::mapped::TensorFile;

/// The rows' file.
pub const METADATA: &str = "metadata.jsonl";
/// The rows of pictures whose files were deleted because the filter dropped them. They stand apart, for
/// Hugging Face's loader takes no row without a file.
pub const REJECTED: &str = "rejected.jsonl";
/// The embeddings' file.
pub const TEXT: &str = "text.safetensors";
/// The axes file.
pub const AXES: &str = "axes.toml";
/// The tensor in a latents file.
pub const LATENTS: &str = "latents";

/// What kind of caption a picture was drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It names no value of any axis.
    Neutral,
    /// It names values.
    Specific,
}

/// Where a picture's latents are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatentsRef {
    /// A file of the data set's folder.
    pub file: String,
    /// The index along its first dimension.
    pub index: usize,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureRow {
    /// The picture, relative to the folder; null when pictures were not kept.
    pub file_name: Option<String>,
    /// The caption it was drawn for.
    pub prompt: String,
    /// The caption that names no axis value, for the same subject.
    pub neutral_prompt: String,
    /// The entry of the prompt list: "doctor".
    pub subject: String,
    /// Whether the caption names values.
    pub kind: Kind,
    /// The values that the caption names; empty for neutral ones.
    pub axes: BTreeMap<String, String>,
    /// The run's seed.
    pub seed: u64,
    /// [`caption_id`] of `prompt`.
    pub prompt_id: u32,
    /// The picture's number among those of its caption, from 0.
    pub image_id: u32,
    /// What a neutral picture was drawn towards, where its caption doesn't say it: the values that a
    /// method of `--guidance` drew for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identity: BTreeMap<String, String>,
    /// The caption that says these, where the picture was drawn by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_prompt: Option<String>,
    /// Its latents.
    pub latents: LatentsRef,
    /// SHA-256 of the picture's file.
    pub sha256: Option<String>,
    /// What the classifier chain saw; null without a chain or where it could not say.
    pub verdict: Option<Readings>,
    /// Why the sanity filter dropped it; null when kept.
    pub dropped: Option<String>,
}

/// A caption's embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Embeddings<'a> {
    /// Tokens and width of `prompt_embeds`.
    pub shape: [usize; 2],
    /// `[tokens, width]`, row-major.
    pub prompt_embeds: &'a [f32],
    /// The pooled embedding, for models that take one.
    pub pooled: Option<&'a [f32]>,
}

/// What pictures must have in common to be in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Channels, height and width of the latents.
    pub latent: [usize; 3],
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// What the model was told of sizes, where that isn't that the pictures are whole.
    pub conditions: Option<SizeConditions>,
}

impl Shape {
    /// SDXL's six size conditions for these pictures: (H, W, 0, 0, H, W) for whole ones.
    pub fn time_ids(&self) -> [f32; TIME_IDS] {
        let (width, height) = self.size;
        let whole = || SizeConditions::whole(height, width);
        self.conditions.unwrap_or_else(whole).time_ids()
    }
}

/// A finished data set, opened for reading.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    manifest: DatasetManifest,
    rows: Vec<PictureRow>,
    text: TensorFile,
    latents: HashMap<String, OnceLock<TensorFile>>,
}

impl Dataset {
    /// Opens a finished data set and checks that its files agree with each other. Pictures may be
    /// gone: nothing here reads them.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_path_buf();
        if fsio::is_url(&dir) {
            return Err(Error::Remote { url: dir });
        }
        if !dir.join(manifest::FILE).is_file() {
            return Err(Error::NotADataset { dir });
        }
        let manifest = DatasetManifest::read(&Store::Folder(dir.clone()))?;
        if manifest.outcome.is_none() {
            return Err(Error::Unfinished { dir });
        }
        let mut rows = read_rows(&dir.join(METADATA))?;
        if manifest.deletes_dropped() {
            rows.extend(read_rows(&dir.join(REJECTED))?);
            in_order(&mut rows);
        }
        let text = TensorFile::open(&dir.join(TEXT))?;
        let latents = rows
            .iter()
            .map(|row| (row.latents.file.clone(), OnceLock::new()))
            .collect();
        let dataset = Self {
            dir,
            manifest,
            rows,
            text,
            latents,
        };
        dataset.check()?;
        Ok(dataset)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it was made.
    pub fn manifest(&self) -> &DatasetManifest {
        &self.manifest
    }

    /// Every picture, dropped ones too.
    pub fn rows(&self) -> &[PictureRow] {
        &self.rows
    }

    /// The pictures that the sanity filter kept, with their row numbers.
    pub fn kept(&self) -> impl Iterator<Item = (usize, &PictureRow)> {
        self.rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.dropped.is_none())
    }

    /// Width and height of the pictures in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.manifest.layout.width, self.manifest.layout.height)
    }

    /// What its pictures have in common.
    pub fn shape(&self) -> Shape {
        Shape {
            latent: self.latent_shape(),
            size: self.size(),
            conditions: self.manifest.layout.size_conditions,
        }
    }

    /// SDXL's six size conditions for these pictures.
    pub fn time_ids(&self) -> [f32; TIME_IDS] {
        self.shape().time_ids()
    }

    /// Channels, height and width of a latent.
    pub fn latent_shape(&self) -> [usize; 3] {
        self.manifest.layout.latent
    }

    /// The latents of row `row`, `[C, h, w]` row-major, scaled as the UNet sees them.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn latents(&self, row: usize) -> Result<&[f32], Error> {
        let LatentsRef { file, index } = &self.rows[row].latents;
        let tensors = self.latents_file(file)?;
        let (shape, values) = tensors.f32(LATENTS)?;
        let latent = self.latent_shape();
        if shape.len() != 4 || shape[1..] != latent {
            let [c, h, w] = latent;
            return Err(tensors
                .mismatch(LATENTS, &format!("F32 [n, {c}, {h}, {w}]"))
                .into());
        }
        let length: usize = latent.iter().product();
        values
            .get(index * length..(index + 1) * length)
            .ok_or_else(|| self.bad_row(row, format!("{file} has no latents {index}")))
    }

    /// The embeddings of a caption by its [`caption_id`].
    pub fn embeddings(&self, prompt_id: u32) -> Result<Embeddings<'_>, Error> {
        let name = embeds_name(prompt_id);
        let layout = &self.manifest.layout;
        let (shape, prompt_embeds) = self.text.f32(&name)?;
        if *shape != layout.prompt_embeds {
            let expected = format!("F32 {:?}", layout.prompt_embeds);
            return Err(self.text.mismatch(&name, &expected).into());
        }
        let pooled = match layout.pooled {
            None => None,
            Some(length) => {
                let name = pooled_name(prompt_id);
                let (shape, pooled) = self.text.f32(&name)?;
                if *shape != [length] {
                    return Err(self.text.mismatch(&name, &format!("F32 [{length}]")).into());
                }
                Some(pooled)
            }
        };
        Ok(Embeddings {
            shape: layout.prompt_embeds,
            prompt_embeds,
            pooled,
        })
    }

    /// The axes file that it was drawn with, if it was drawn with one.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn axes(&self) -> Result<Option<PathBuf>, Error> {
        let path = self.dir.join(AXES);
        let made = self.manifest.config.get("axes");
        match (path.is_file(), made.is_some_and(|axes| !axes.is_null())) {
            (true, _) => Ok(Some(path)),
            (false, true) => Err(Error::Missing { path }),
            (false, false) => Ok(None),
        }
    }

    /// The picture's file, where pictures were kept; it may be gone.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn image_path(&self, row: usize) -> Option<PathBuf> {
        let name = self.rows[row].file_name.as_deref()?;
        Some(self.dir.join(name))
    }

    fn latents_file(&self, name: &str) -> Result<&TensorFile, Error> {
        let slot = &self.latents[name];
        if let Some(file) = slot.get() {
            return Ok(file);
        }
        let file = TensorFile::open(&self.dir.join(name))?;
        Ok(slot.get_or_init(|| file))
    }

    fn bad_row(&self, row: usize, problem: String) -> Error {
        Error::Row {
            path: self.dir.join(METADATA),
            line: row + 1,
            problem,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let expected = self.manifest.rows();
        if self.rows.len() != expected {
            return Err(Error::RowCount {
                path: self.dir.join(METADATA),
                expected,
                found: self.rows.len(),
            });
        }
        let mut present = HashSet::new();
        for (index, row) in self.rows.iter().enumerate() {
            self.check_row(row, &mut present)
                .map_err(|problem| self.bad_row(index, problem))?;
        }
        Ok(())
    }

    fn check_row<'a>(
        &self,
        row: &'a PictureRow,
        present: &mut HashSet<&'a str>,
    ) -> Result<(), String> {
        let names = row.file_name.iter().chain([&row.latents.file]);
        for name in names {
            if !inside(name) {
                return Err(format!("`{name}` is not a path inside the folder"));
            }
        }
        let latents = &row.latents.file;
        if present.insert(latents) && !self.dir.join(latents).is_file() {
            return Err(format!("`{latents}` is missing"));
        }
        let id = caption_id(&row.prompt);
        if row.prompt_id != id {
            return Err(format!(
                "prompt_id is {}, but the prompt's is {id}",
                row.prompt_id
            ));
        }
        for id in [id, caption_id(&row.neutral_prompt)] {
            if self.text.shape(&embeds_name(id)).is_none() {
                return Err(format!("{TEXT} has no `{}`", embeds_name(id)));
            }
        }
        Ok(())
    }
}

/// The tensor of a caption's token embeddings.
pub fn embeds_name(prompt_id: u32) -> String {
    format!("prompt_embeds.{prompt_id:08x}")
}

/// The tensor of a caption's pooled embedding.
pub fn pooled_name(prompt_id: u32) -> String {
    format!("pooled.{prompt_id:08x}")
}

/// Puts rows in the order in which their pictures stand in the data set.
pub(super) fn in_order(rows: &mut [PictureRow]) {
    rows.sort_by(|a, b| {
        let key = |row: &PictureRow| (row.latents.file.len(), row.latents.index);
        let [(a_len, a_index), (b_len, b_index)] = [key(a), key(b)];
        let files = a_len
            .cmp(&b_len)
            .then_with(|| a.latents.file.cmp(&b.latents.file));
        files.then(a_index.cmp(&b_index))
    });
}

/// Reads rows from a file of JSON lines.
fn read_rows(path: &Path) -> Result<Vec<PictureRow>, Error> {
    parse_rows(path, &fsio::read_to_string(path)?)
}

/// A file's text; messages call it `path`.
pub(super) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, fsio::Error> {
    String::from_utf8(bytes).map_err(|error| {
        let problem = io::Error::new(io::ErrorKind::InvalidData, error);
        fsio::at("read", path)(problem)
    })
}

/// The rows of a text of JSON lines.
pub(super) fn parse_rows(path: &Path, text: &str) -> Result<Vec<PictureRow>, Error> {
    let bad = |line, source| Error::Json {
        path: path.to_path_buf(),
        line,
        source,
    };
    let values = json::values(text).map_err(|(line, source)| bad(line, source))?;
    let row = |(line, value)| serde_json::from_value(value).map_err(|source| bad(line, source));
    values.into_iter().map(row).collect()
}

fn inside(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}
