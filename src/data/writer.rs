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
//! alone. In an object store nobody can lock, and nobody has to: an object is put whole, and two writers of
//! one put the same bytes. Two that join do so with the same result; one that finds parts gone while it
//! joins, or its units gone at the start, looks whether the manifest says now that the set is whole. Where
//! several shards mend a finished set at the same time, one that comes late may make a whole set unfinished
//! again: then some units are drawn twice, to the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::claim::Claim;
use super::dataset::{self, Embeddings, LATENTS, METADATA, PictureRow, REJECTED, TEXT};
use super::manifest::{self, DatasetManifest, Layout, Outcome};
use super::on_disk;
use super::on_disk::{PARTS, part_name};
pub use super::on_disk::{latents_name, unit_of};
use crate::base::fsio;
use crate::base::slow::Slow;
use crate::store::{self, Store, Writing};
use crate::tensors;
use crate::tensors::mapped::{TensorFile, TensorWriter};

pub(super) const IMAGES: &str = "images";

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
    store: Store,
    manifest: DatasetManifest,
    claim: Claim,
    /// Files of a finished data set that are to be made again.
    damaged: Vec<String>,
    /// Units that were found whole.
    whole: BTreeSet<usize>,
}

impl DatasetWriter {
    /// Starts a data set, or goes on where an earlier run of the same configuration stopped.
    ///
    /// A place begun with another configuration is refused, naming the key that differs. A finished
    /// set of which files are missing or damaged is unfinished again.
    pub fn open(store: Store, manifest: DatasetManifest) -> Result<Self, dataset::Error> {
        // Refused before anything is touched; what counts is the second look, under the lock.
        begun(&store, &manifest)?;
        store.make_folder("")?;
        let claim = Claim::open(&store)?;
        let mut survey = on_disk::Survey::default();
        if claim.alone()? {
            remove_partial_files(&store)?;
            survey = reopen(&store)?;
            claim.release()?;
        }
        claim.share()?;
        let manifest = match begun(&store, &manifest)? {
            Some(found) => found,
            None => {
                manifest.write(&store)?;
                manifest
            }
        };
        if manifest.outcome.is_none() {
            store.make_folder(PARTS)?;
            store.make_folder(IMAGES)?;
        }
        Ok(Self {
            store,
            manifest,
            claim,
            damaged: survey.damaged,
            whole: survey.whole.into_iter().map(|(unit, _)| unit).collect(),
        })
    }

    /// Where it is written.
    pub fn store(&self) -> &Store {
        &self.store
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
    pub fn has_text(&self) -> Result<bool, dataset::Error> {
        on_disk::is_text(&self.store, None)
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
        let mut writer = self.tensors(TEXT, tensors)?;
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
        writer.end().commit().map_err(|e| E::from(e.into()))
    }

    /// Starts a file of tensors.
    fn tensors(
        &self,
        name: &str,
        tensors: Vec<(String, Vec<usize>)>,
    ) -> Result<TensorWriter<Writing>, dataset::Error> {
        let (file, path) = (self.store.create(name)?, self.store.path(name));
        Ok(TensorWriter::new(file, &path, tensors)?)
    }

    /// Reads the embeddings of one caption back.
    pub fn text(&self) -> Result<TextFile, dataset::Error> {
        Ok(TextFile {
            file: TensorFile::of(&self.store.file(TEXT)?, &self.store.path(TEXT))?,
            layout: self.layout().clone(),
        })
    }

    /// Whether a unit is done, and its files are whole.
    pub fn unit_done(&self, unit: usize) -> Result<bool, dataset::Error> {
        Ok(self.whole.contains(&unit) || self.unit_rows(unit)?.is_some())
    }

    /// The rows of a unit, if it is done.
    pub fn unit_rows(&self, unit: usize) -> Result<Option<Vec<PictureRow>>, dataset::Error> {
        on_disk::done(&self.store, unit, self.layout())
    }

    /// Of some units those that are not done.
    pub fn units_left(
        &self,
        units: impl Iterator<Item = usize>,
    ) -> Result<Vec<usize>, dataset::Error> {
        let units: Vec<usize> = units.collect();
        let doing = format!("checking the files of {}", self.store.name().display());
        let mut slow = Slow::pieces(doing, units.len() as u64);
        let parts = self.store.list(PARTS)?;
        let mut left = Vec::new();
        for unit in units {
            slow.add(1);
            let seems_done = self.whole.contains(&unit) || parts.contains_key(&part_name(unit));
            if !seems_done || !self.unit_done(unit)? {
                left.push(unit);
            }
        }
        // Where nobody is kept out, others may have joined the parts just now, and so removed them.
        if !left.is_empty() && DatasetManifest::read(&self.store)?.outcome.is_some() {
            left.clear();
        }
        Ok(left)
    }

    /// Writes one picture; `name` is relative to the folder and stands under `images/`.
    pub fn write_image(&self, name: &str, bytes: &[u8]) -> Result<(), dataset::Error> {
        Ok(self.store.write(name, bytes)?)
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
            let tensors = vec![(LATENTS.to_owned(), shape)];
            let mut writer = self.tensors(&latents_name(unit), tensors)?;
            writer.push(LATENTS, latents)?;
            writer.end().commit()?;
        }
        write_part(&self.store, unit, rows)
    }

    /// Finishes a unit whose files are all there.
    pub(super) fn adopt_unit(
        &self,
        unit: usize,
        rows: &[PictureRow],
    ) -> Result<(), dataset::Error> {
        write_part(&self.store, unit, rows)
    }

    /// Joins the parts when all are there and nobody else is writing.
    pub fn finish(mut self) -> Result<Finish, dataset::Error> {
        self.claim.release()?;
        if self.outcome().is_none() {
            let parts = self.store.list(PARTS)?;
            let units = 0..self.layout().units();
            let left = units.filter(|&unit| !parts.contains_key(&part_name(unit)));
            let left = left.count();
            // Another writer may have joined, and so removed, the parts just now.
            let joined = DatasetManifest::read(&self.store)?;
            if joined.outcome.is_some() {
                self.manifest = joined;
            } else if left > 0 {
                return Ok(Finish::UnitsLeft(left));
            }
        }
        if !self.claim.alone()? {
            return Ok(self
                .outcome()
                .map_or(Finish::LeftToOthers, |o| Finish::Complete(o.clone())));
        }
        self.manifest = DatasetManifest::read(&self.store)?;
        let outcome = match self.outcome() {
            Some(outcome) => outcome.clone(),
            None => match self.join() {
                Ok(Finish::Complete(outcome)) => outcome,
                Ok(other) => return Ok(other),
                // As above, where nobody is kept out.
                Err(error) => {
                    self.manifest = DatasetManifest::read(&self.store)?;
                    self.outcome().cloned().ok_or(error)?
                }
            },
        };
        remove_partial_files(&self.store)?;
        remove_parts(&self.store)?;
        Ok(Finish::Complete(outcome))
    }

    /// Joins the parts, unless files went while others were drawn: their units are not done any more.
    fn join(&mut self) -> Result<Finish, dataset::Error> {
        let names: Vec<String> = (0..self.layout().units()).map(part_name).collect();
        let mut parts = Vec::with_capacity(names.len());
        for (name, bytes) in names.iter().zip(self.store.read_all(&names)?) {
            let path = self.store.path(name);
            let text = dataset::utf8(&path, bytes)?;
            let rows = dataset::parse_rows(&path, &text)?;
            parts.push((text, rows));
        }
        let there = self.store.list("")?;
        let mut lost = 0;
        for (unit, (_, rows)) in parts.iter().enumerate() {
            if let Some(name) = on_disk::lost(&there, unit, rows) {
                let path = self.store.path(&name);
                tracing::warn!("{}: gone since it was drawn", path.display());
                self.store.remove(&part_name(unit))?;
                lost += 1;
            }
        }
        match lost {
            0 => self.complete(&parts).map(Finish::Complete),
            units => Ok(Finish::UnitsLeft(units)),
        }
    }

    /// Writes the rows of all units, and what came out.
    fn complete(&mut self, parts: &[(String, Vec<PictureRow>)]) -> Result<Outcome, dataset::Error> {
        let (mut text, mut deleted) = (String::new(), String::new());
        let (mut kept, mut dropped) = (0, BTreeMap::new());
        let mut names = vec![METADATA.to_owned(), TEXT.to_owned()];
        for (unit, (lines, rows)) in parts.iter().enumerate() {
            names.extend((!rows.is_empty()).then(|| latents_name(unit)));
            for (line, row) in lines.lines().zip(rows) {
                let gone = row.dropped.is_some() && self.manifest.deletes_dropped();
                let file = if gone { &mut deleted } else { &mut text };
                file.push_str(line);
                file.push('\n');
                match &row.dropped {
                    None => kept += 1,
                    Some(reason) => *dropped.entry(reason.clone()).or_default() += 1,
                }
            }
        }
        self.store.write(METADATA, text.as_bytes())?;
        if self.manifest.deletes_dropped() {
            self.store.write(REJECTED, deleted.as_bytes())?;
            names.push(REJECTED.to_owned());
        }
        let hashes = self.store.sha256(&names)?;
        let outcome = Outcome {
            kept,
            dropped,
            sha256: names.into_iter().zip(hashes).collect(),
        };
        self.manifest.outcome = Some(outcome.clone());
        self.manifest.write(&self.store)?;
        Ok(outcome)
    }
}

/// The units that a place lacks of the data set of `manifest`; nothing is touched.
///
/// # Errors
/// As [`DatasetWriter::open`], for a place of another configuration.
pub fn units_lacking(
    store: &Store,
    manifest: &DatasetManifest,
) -> Result<Vec<usize>, dataset::Error> {
    let units = 0..manifest.layout.units();
    let Some(found) = begun(store, manifest)? else {
        return Ok(units.collect());
    };
    let whole: BTreeSet<usize> = match &found.outcome {
        None => BTreeSet::new(),
        Some(outcome) => {
            let survey = on_disk::survey(store, &found, outcome)?;
            survey.whole.into_iter().map(|(unit, _)| unit).collect()
        }
    };
    let mut lacking = Vec::new();
    for unit in units {
        if !whole.contains(&unit) && on_disk::done(store, unit, &manifest.layout)?.is_none() {
            lacking.push(unit);
        }
    }
    Ok(lacking)
}

/// Every row of a finished data set, of dropped pictures too.
pub fn rows(store: &Store) -> Result<Vec<PictureRow>, dataset::Error> {
    on_disk::rows(store, &DatasetManifest::read(store)?)
}

/// The manifest that is there already, if it has the configuration of `now`.
fn begun(store: &Store, now: &DatasetManifest) -> Result<Option<DatasetManifest>, manifest::Error> {
    let found = DatasetManifest::find(store)?;
    if let Some(found) = &found {
        found.same_run(now, store)?;
    }
    Ok(found)
}

/// Makes a finished data set unfinished again if files of it are missing or damaged. Nobody else may
/// be working on it.
fn reopen(store: &Store) -> Result<on_disk::Survey, dataset::Error> {
    let Some(mut manifest) = DatasetManifest::find(store)? else {
        return Ok(on_disk::Survey::default());
    };
    let Some(outcome) = manifest.outcome.take() else {
        return Ok(on_disk::Survey::default());
    };
    let survey = on_disk::survey(store, &manifest, &outcome)?;
    if survey.damaged.is_empty() {
        return Ok(survey);
    }
    store.make_folder(PARTS)?;
    for (unit, rows) in &survey.whole {
        write_part(store, *unit, rows)?;
    }
    if survey.damaged.iter().any(|name| name == TEXT) {
        store.remove(TEXT)?;
    }
    manifest.write(store)?;
    Ok(survey)
}

/// Writes the rows of a unit, whose other files are there.
fn write_part(store: &Store, unit: usize, rows: &[PictureRow]) -> Result<(), dataset::Error> {
    let name = part_name(unit);
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row).map_err(|source| dataset::Error::Json {
            path: store.path(&name),
            line: 0,
            source,
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(store.write(&name, text.as_bytes())?)
}

/// Removes what killed writes left. In a store they leave nothing that has a name.
fn remove_partial_files(store: &Store) -> Result<(), fsio::Error> {
    if let Store::Folder(dir) = store {
        fsio::remove_partial(dir)?;
        fsio::remove_partial(&dir.join(PARTS))?;
        fsio::remove_partial(&dir.join(IMAGES))?;
    }
    Ok(())
}

fn remove_parts(store: &Store) -> Result<(), store::Error> {
    let removed = store.remove_folder(PARTS);
    if let Store::Folder(dir) = store {
        // A run without pictures leaves an empty folder behind; `remove_dir` keeps one that is not.
        let _ = fs::remove_dir(dir.join(IMAGES));
    }
    removed
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
