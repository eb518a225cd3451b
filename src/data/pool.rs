//! Several data sets as one: pictures of different sizes come from different runs of `pa-datagen`.
//!
//! Rows count on from set to set. The sets must be of one model: a caption's embeddings are then the
//! same in each that has them.

use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Embeddings, Error, PictureRow, Shape};
use crate::base::LeftOut;

/// Data sets of one model.
#[derive(Debug)]
pub struct Pool {
    sets: Vec<Dataset>,
    /// The first row of each.
    starts: Vec<usize>,
}

impl Pool {
    /// Opens finished data sets, at least one.
    ///
    /// # Errors
    /// As [`Dataset::open`], and [`Error::Differ`].
    pub fn open(dirs: &[PathBuf]) -> Result<Self, Error> {
        Self::new(dirs.iter().map(Dataset::open).collect::<Result<_, _>>()?)
    }

    /// Joins data sets, at least one.
    ///
    /// # Errors
    /// [`Error::Differ`] for sets of different models.
    ///
    /// # Panics
    /// Without any.
    pub fn new(sets: Vec<Dataset>) -> Result<Self, Error> {
        assert!(!sets.is_empty(), "a pool of no data sets");
        for other in &sets[1..] {
            if let Some(what) = differ(&sets[0], other) {
                return Err(Error::Differ {
                    first: sets[0].dir().to_path_buf(),
                    second: other.dir().to_path_buf(),
                    what,
                });
            }
        }
        let mut starts = vec![0];
        for set in &sets[..sets.len() - 1] {
            starts.push(starts[starts.len() - 1] + set.rows().len());
        }
        Ok(Self { sets, starts })
    }

    /// The sets.
    pub fn sets(&self) -> &[Dataset] {
        &self.sets
    }

    /// The first set's folder, for messages.
    pub fn dir(&self) -> &Path {
        self.sets[0].dir()
    }

    /// Every picture, dropped ones too.
    pub fn rows(&self) -> impl Iterator<Item = &PictureRow> {
        self.sets.iter().flat_map(Dataset::rows)
    }

    /// The pictures that the sanity filter kept, with their row numbers.
    pub fn kept(&self) -> impl Iterator<Item = (usize, &PictureRow)> {
        let all = self.rows().enumerate();
        all.filter(|(_, row)| row.dropped.is_none())
    }

    /// What the sanity filter dropped, by reason.
    pub fn left_out(&self) -> LeftOut {
        let mut left = LeftOut::default();
        for (index, row) in self.rows().enumerate() {
            left.of += 1;
            let Some(reason) = &row.dropped else { continue };
            match &row.file_name {
                None => left.count(reason, 1),
                Some(name) => {
                    let dir = self.sets[self.place(index).0].dir();
                    left.add(reason, dir.join(name).display().to_string());
                }
            }
        }
        left
    }

    /// The number of a row's set, and the row's number there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn place(&self, row: usize) -> (usize, usize) {
        let set = self.starts.partition_point(|&start| start <= row) - 1;
        (set, row - self.starts[set])
    }

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &PictureRow {
        let (set, row) = self.place(row);
        &self.sets[set].rows()[row]
    }

    /// The latents of a row, as [`Dataset::latents`].
    ///
    /// # Errors
    /// As there.
    pub fn latents(&self, row: usize) -> Result<&[f32], Error> {
        let (set, row) = self.place(row);
        self.sets[set].latents(row)
    }

    /// What a row's picture may share a batch with.
    pub fn shape(&self, row: usize) -> Shape {
        self.sets[self.place(row).0].shape()
    }

    /// The embeddings of a caption, from the first set that has them.
    ///
    /// # Errors
    /// As [`Dataset::embeddings`], if none has.
    pub fn embeddings(&self, prompt_id: u32) -> Result<Embeddings<'_>, Error> {
        let mut others = self.sets[1..].iter();
        self.sets[0].embeddings(prompt_id).or_else(|error| {
            others
                .find_map(|set| set.embeddings(prompt_id).ok())
                .ok_or(error)
        })
    }
}

/// In what two data sets are of different models, if they are.
fn differ(a: &Dataset, b: &Dataset) -> Option<String> {
    let (x, y) = (a.manifest(), b.manifest());
    if (x.layout.prompt_embeds, x.layout.pooled) != (y.layout.prompt_embeds, y.layout.pooled) {
        return Some("the sizes of their text embeddings".to_owned());
    }
    if x.layout.latent[0] != y.layout.latent[0] {
        return Some("the channels of their latents".to_owned());
    }
    let keys = x.config.keys().chain(y.config.keys());
    let mut model = keys.filter(|key| key.starts_with("model."));
    let key = model.find(|key| x.config.get(*key) != y.config.get(*key))?;
    Some(format!("`{key}` of the models that drew them"))
}
