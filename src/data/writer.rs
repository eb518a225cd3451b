//! Writing a data set so that it may be killed anywhere and shared between processes.
//!
//! The pictures of a run stand in one fixed list, cut into *units* of fixed size. A unit is the
//! smallest thing that is done or not done: its pictures come first, then its latents file, then
//! `parts/metadata-NNNNN.jsonl`, whose appearance means "done". What a unit's files hold depends
//! on the configuration and the unit's number alone, so it does not matter who writes it, when, or
//! how often: a killed unit is simply made again, shards take units by their number, and a batch
//! never spans two units. When all parts are there, whoever notices joins them into
//! `metadata.jsonl`, completes the manifest and removes the parts.
//!
//! Whether a unit is done is looked up on the disk, never in the manifest: where files of a finished
//! data set are missing or damaged, it is unfinished again but for its whole units.
//!
//! Writers of one folder hold a shared lock on `.lock`; the one that cleans up or joins needs it
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::dataset::{self, Embeddings, LATENTS, METADATA, PictureRow, REJECTED, TEXT};
use super::manifest::{self, DatasetManifest, Layout, Outcome};
use super::on_disk;
use super::on_disk::{PARTS, part_name};
pub use super::on_disk::{latents_name, unit_of};
use crate::base::slow::Slow;
use crate::base::{fsio, lock};
use crate::tensors;
use crate::tensors::mapped::{TensorFile, TensorWriter};

pub(super) const IMAGES: &str = "images";
pub(super) const LOCK: &str = ".lock";

/// What is left after a writer did its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The data set is whole.
    Complete(Outcome),
    /// So many units are not there yet; other shards make them.
    UnitsLeft(usize),
    /// All units are there, and another writer that is still at work will join them.
    LeftToOthers,
}

/// A data set being written.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    manifest: DatasetManifest,
    lock: File,
    /// Files of a finished data set that are to be made again.
    damaged: Vec<String>,
    /// Units that were found whole.
    whole: BTreeSet<usize>,
}

impl DatasetWriter {
    /// Starts `dir`, or goes on where an earlier run of the same configuration stopped.
    ///
    /// A folder begun with another configuration is refused, naming the key that differs. A finished
    /// one of which files are missing or damaged is unfinished again.
    pub fn open(dir: &Path, manifest: DatasetManifest) -> Result<Self, dataset::Error> {
        // Refused before anything is touched; what counts is the second look, under the lock.
        begun(dir, &manifest)?;
        fsio::create_dir_all(dir)?;
        let path = dir.join(LOCK);
        let lock = lock::open(&path)?;
        let mut survey = on_disk::Survey::default();
        if lock::take_file(&lock, &path)? {
            remove_partial_files(dir)?;
            survey = reopen(dir)?;
            lock.unlock().map_err(at(dir))?;
        }
        lock.lock_shared().map_err(at(dir))?;
        let manifest = match begun(dir, &manifest)? {
            Some(found) => found,
            None => {
                manifest.write(dir)?;
                manifest
            }
        };
        if manifest.outcome.is_none() {
            fsio::create_dir_all(dir.join(PARTS))?;
            fsio::create_dir_all(dir.join(IMAGES))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            manifest,
            lock,
            damaged: survey.damaged,
            whole: survey.whole.into_iter().map(|(unit, _)| unit).collect(),
        })
    }

    /// Files of a data set that was finished which are missing or damaged and to be made again, by
    /// their names in the folder.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// The folder's sizes.
    pub fn layout(&self) -> &Layout {
        &self.manifest.layout
    }

    /// What came out, when the data set is whole already.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.manifest.outcome.as_ref()
    }

    /// Whether the embeddings are written.
    pub fn has_text(&self) -> bool {
        on_disk::is_text(&self.dir.join(TEXT), None)
    }

    /// Writes the embeddings of all captions, in a fixed order; `embed` gives each when its turn
    /// comes.
    pub fn write_text<E: From<dataset::Error>>(
        &self,
        prompt_ids: &[u32],
        mut embed: impl FnMut(usize) -> Result<(Vec<f32>, Option<Vec<f32>>), E>,
    ) -> Result<(), E> {
        let layout = self.layout();
        let tensors = prompt_ids
            .iter()
            .flat_map(|&id| {
                let pooled = layout.pooled.map(|n| (dataset::pooled_name(id), vec![n]));
                std::iter::once((dataset::embeds_name(id), layout.prompt_embeds.to_vec()))
                    .chain(pooled)
            })
            .collect();
        let file = |e: tensors::Error| E::from(e.into());
        let mut writer = TensorWriter::create(&self.dir.join(TEXT), tensors).map_err(file)?;
        for (index, &id) in prompt_ids.iter().enumerate() {
            let (prompt_embeds, pooled) = embed(index)?;
            let name = dataset::embeds_name(id);
            writer.push(&name, &prompt_embeds).map_err(file)?;
            if let Some(pooled) = pooled {
                writer
                    .push(&dataset::pooled_name(id), &pooled)
                    .map_err(file)?;
            }
        }
        writer.commit().map_err(file)
    }

    /// Reads the embeddings of one caption back.
    pub fn text(&self) -> Result<TextFile, dataset::Error> {
        Ok(TextFile {
            file: TensorFile::open(&self.dir.join(TEXT))?,
            layout: self.layout().clone(),
        })
    }

    /// Whether a unit is done, and its files are whole.
    pub fn unit_done(&self, unit: usize) -> bool {
        self.whole.contains(&unit) || on_disk::done(&self.dir, unit, self.layout()).is_some()
    }

    /// The rows of a unit, if it is done.
    pub fn unit_rows(&self, unit: usize) -> Option<Vec<PictureRow>> {
        on_disk::done(&self.dir, unit, self.layout())
    }

    /// Of some units those that are not done.
    pub fn units_left(&self, units: impl Iterator<Item = usize>) -> Vec<usize> {
        let units: Vec<usize> = units.collect();
        let doing = format!("checking the files of {}", self.dir.display());
        let mut slow = Slow::pieces(doing, units.len() as u64);
        let left = units.into_iter().filter(|&unit| {
            slow.add(1);
            !self.unit_done(unit)
        });
        left.collect()
    }

    /// Writes one picture; `name` is relative to the folder and stands under `images/`.
    pub fn write_image(&self, name: &str, bytes: &[u8]) -> Result<(), dataset::Error> {
        Ok(fsio::write(self.dir.join(name), bytes)?)
    }

    /// Finishes a unit whose pictures are written: `latents` is `[rows, C, h, w]`. In a ragged layout
    /// it may have fewer than there are places for, or none.
    ///
    /// # Panics
    /// If the lengths contradict the layout.
    pub fn write_unit(
        &self,
        unit: usize,
        rows: &[PictureRow],
        latents: &[f32],
    ) -> Result<(), dataset::Error> {
        assert!(self.layout().fits(unit, rows.len()), "rows of a unit");
        if !rows.is_empty() {
            let [c, h, w] = self.layout().latent;
            let shape = vec![rows.len(), c, h, w];
            let path = self.dir.join(latents_name(unit));
            let mut writer = TensorWriter::create(&path, vec![(LATENTS.to_owned(), shape)])?;
            writer.push(LATENTS, latents)?;
            writer.commit()?;
        }
        write_part(&self.dir, unit, rows)
    }

    /// Finishes a unit whose files are all there.
    pub(super) fn adopt_unit(
        &self,
        unit: usize,
        rows: &[PictureRow],
    ) -> Result<(), dataset::Error> {
        write_part(&self.dir, unit, rows)
    }

    /// Joins the parts when all are there and nobody else is writing.
    pub fn finish(mut self) -> Result<Finish, dataset::Error> {
        self.lock.unlock().map_err(at(&self.dir))?;
        if self.outcome().is_none() {
            let units = 0..self.layout().units();
            let left = units.filter(|&unit| !self.seems_done(unit)).count();
            // Another writer may have joined, and so removed, the parts just now.
            let joined = DatasetManifest::read(&self.dir)?;
            if joined.outcome.is_some() {
                self.manifest = joined;
            } else if left > 0 {
                return Ok(Finish::UnitsLeft(left));
            }
        }
        if !lock::take_file(&self.lock, &self.dir.join(LOCK))? {
            return Ok(self
                .outcome()
                .map_or(Finish::LeftToOthers, |o| Finish::Complete(o.clone())));
        }
        self.manifest = DatasetManifest::read(&self.dir)?;
        let outcome = match self.outcome() {
            Some(outcome) => outcome.clone(),
            None => match self.lost()? {
                0 => self.join()?,
                units => return Ok(Finish::UnitsLeft(units)),
            },
        };
        remove_partial_files(&self.dir)?;
        remove_parts(&self.dir)?;
        Ok(Finish::Complete(outcome))
    }

    /// Whether a unit's part and latents are there; what they hold is looked at when they are joined.
    fn seems_done(&self, unit: usize) -> bool {
        let Ok(part) = self.dir.join(part_name(unit)).metadata() else {
            return false;
        };
        let empty = self.layout().ragged && part.len() == 0;
        empty || self.dir.join(latents_name(unit)).is_file()
    }

    /// The units whose pictures went while others were drawn; they are not done any more.
    fn lost(&self) -> Result<usize, dataset::Error> {
        let mut units = 0;
        for unit in 0..self.layout().units() {
            let part = self.dir.join(part_name(unit));
            let rows = dataset::read_rows(&part)?;
            if let Some(name) = on_disk::lost(&self.dir, &rows).first() {
                tracing::warn!("{}: gone since it was drawn", self.dir.join(name).display());
                fsio::remove_if_present(&part)?;
                units += 1;
            }
        }
        Ok(units)
    }

    fn join(&mut self) -> Result<Outcome, dataset::Error> {
        let (mut text, mut deleted) = (String::new(), String::new());
        let (mut kept, mut dropped) = (0, BTreeMap::new());
        let mut names = vec![METADATA.to_owned(), TEXT.to_owned()];
        for unit in 0..self.layout().units() {
            let path = self.dir.join(part_name(unit));
            let rows = dataset::read_rows(&path)?;
            names.extend((!rows.is_empty()).then(|| latents_name(unit)));
            for (line, row) in fsio::read_to_string(&path)?.lines().zip(rows) {
                let gone = row.dropped.is_some() && self.manifest.deletes_dropped();
                let file = if gone { &mut deleted } else { &mut text };
                file.push_str(line);
                file.push('\n');
                match row.dropped {
                    None => kept += 1,
                    Some(reason) => *dropped.entry(reason).or_default() += 1,
                }
            }
        }
        fsio::write(self.dir.join(METADATA), text)?;
        if self.manifest.deletes_dropped() {
            fsio::write(self.dir.join(REJECTED), deleted)?;
            names.push(REJECTED.to_owned());
        }
        let mut sha256 = BTreeMap::new();
        for name in names {
            let hash = fsio::sha256(&self.dir.join(&name))?;
            sha256.insert(name, hash);
        }
        let outcome = Outcome {
            kept,
            dropped,
            sha256,
        };
        self.manifest.outcome = Some(outcome.clone());
        self.manifest.write(&self.dir)?;
        Ok(outcome)
    }
}

/// The units that the folder `dir` lacks of the data set of `manifest`; nothing is touched.
///
/// # Errors
/// As [`DatasetWriter::open`], for a folder of another configuration.
pub fn units_lacking(dir: &Path, manifest: &DatasetManifest) -> Result<Vec<usize>, dataset::Error> {
    let units = 0..manifest.layout.units();
    let Some(found) = begun(dir, manifest)? else {
        return Ok(units.collect());
    };
    let whole: BTreeSet<usize> = match &found.outcome {
        None => BTreeSet::new(),
        Some(outcome) => {
            let survey = on_disk::survey(dir, &found, outcome);
            survey.whole.into_iter().map(|(unit, _)| unit).collect()
        }
    };
    let layout = &manifest.layout;
    let done = |unit: usize| on_disk::done(dir, unit, layout).is_some();
    let lacking = |unit: &usize| !whole.contains(unit) && !done(*unit);
    Ok(units.filter(lacking).collect())
}

/// The manifest that is in `dir` already, if it has the configuration of `now`.
fn begun(dir: &Path, now: &DatasetManifest) -> Result<Option<DatasetManifest>, manifest::Error> {
    if !dir.join(manifest::FILE).exists() {
        return Ok(None);
    }
    let found = DatasetManifest::read(dir)?;
    found.same_run(now, dir)?;
    Ok(Some(found))
}

/// Makes a finished data set unfinished again if files of it are missing or damaged. Nobody else may
/// be working on it.
fn reopen(dir: &Path) -> Result<on_disk::Survey, dataset::Error> {
    if !dir.join(manifest::FILE).exists() {
        return Ok(on_disk::Survey::default());
    }
    let mut manifest = DatasetManifest::read(dir)?;
    let Some(outcome) = manifest.outcome.take() else {
        return Ok(on_disk::Survey::default());
    };
    let survey = on_disk::survey(dir, &manifest, &outcome);
    if survey.damaged.is_empty() {
        return Ok(survey);
    }
    fsio::create_dir_all(dir.join(PARTS))?;
    for (unit, rows) in &survey.whole {
        write_part(dir, *unit, rows)?;
    }
    if survey.damaged.iter().any(|name| name == TEXT) {
        fsio::remove_if_present(dir.join(TEXT))?;
    }
    manifest.write(dir)?;
    Ok(survey)
}

/// Writes the rows of a unit, whose other files are there.
fn write_part(dir: &Path, unit: usize, rows: &[PictureRow]) -> Result<(), dataset::Error> {
    let path = dir.join(part_name(unit));
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row).map_err(|source| dataset::Error::Json {
            path: path.clone(),
            line: 0,
            source,
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(fsio::write(path, text)?)
}

/// The embeddings' file of a data set being written.
#[derive(Debug)]
pub struct TextFile {
    file: TensorFile,
    layout: Layout,
}

impl TextFile {
    /// The embeddings of a caption by its [`caption_id`](crate::prompts::caption_id).
    pub fn get(&self, prompt_id: u32) -> Result<Embeddings<'_>, dataset::Error> {
        let prompt_embeds = self.file.f32(&dataset::embeds_name(prompt_id))?.1;
        let pooled = match self.layout.pooled {
            Some(_) => Some(self.file.f32(&dataset::pooled_name(prompt_id))?.1),
            None => None,
        };
        Ok(Embeddings {
            shape: self.layout.prompt_embeds,
            prompt_embeds,
            pooled,
        })
    }
}

fn at(dir: &Path) -> impl Fn(io::Error) -> fsio::Error {
    let path = dir.join(LOCK);
    move |source| fsio::at("lock", &path)(source)
}

/// Removes what killed writes left.
fn remove_partial_files(dir: &Path) -> Result<(), fsio::Error> {
    fsio::remove_partial(dir)?;
    fsio::remove_partial(&dir.join(PARTS))?;
    fsio::remove_partial(&dir.join(IMAGES))
}

fn remove_parts(dir: &Path) -> Result<(), fsio::Error> {
    let parts = dir.join(PARTS);
    let removed = fs::remove_dir_all(&parts);
    // A run without pictures leaves an empty folder behind; `remove_dir` keeps one that is not.
    let _ = fs::remove_dir(dir.join(IMAGES));
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(fsio::at("remove", &parts)(source))
        }
        _ => Ok(()),
    }
}
