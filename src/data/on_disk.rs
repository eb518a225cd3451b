//! What of a data set is on the disk, or in the store: completeness is what is there, not what a manifest
//! says.
//!
//! A file counts if it is the one that was written: by its SHA-256 where that is known (pictures' stand
//! in their rows, those of a finished set's other files in its manifest), otherwise by its form. One that
//! can't be read is not whole either: what is written in its place will say why.

use std::collections::{BTreeMap, BTreeSet};

use super::dataset::{self, Error, LATENTS, METADATA, PictureRow, REJECTED, TEXT};
use super::manifest::{DatasetManifest, Layout, Outcome};
use crate::base::{slow::Slow, text};
use crate::store::{self, Compared, Store};
use crate::tensors::{self, mapped};

/// The folder of units' rows while a data set is unfinished.
pub(super) const PARTS: &str = "parts";

/// The latents file of a unit.
pub fn latents_name(unit: usize) -> String {
    format!("latents-{unit:05}.safetensors")
}

/// The unit that a latents file is of; the first for a name that is none.
pub fn unit_of(latents: &str) -> usize {
    let digits = latents.strip_prefix("latents-").unwrap_or_default();
    let digits = digits.strip_suffix(".safetensors").unwrap_or_default();
    digits.parse().unwrap_or_default()
}

/// The file with the rows of a unit, while the data set is unfinished.
pub(super) fn part_name(unit: usize) -> String {
    format!("{PARTS}/metadata-{unit:05}.jsonl")
}

/// What was found of a finished data set.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Files that are missing or not what was written, by their names in the folder.
    pub(super) damaged: Vec<String>,
    /// The rows of the units that are whole.
    pub(super) whole: Vec<(usize, Vec<PictureRow>)>,
}

/// Looks at every file of a finished data set.
pub(super) fn survey(
    store: &Store,
    manifest: &DatasetManifest,
    outcome: &Outcome,
) -> Result<Survey, Error> {
    let mut found = Survey::default();
    let hash = |name: &str| outcome.sha256.get(name).map(String::as_str);
    let layout = &manifest.layout;
    if !is_text(store, hash(TEXT))? {
        found.damaged.push(TEXT.to_owned());
    }
    let rows = rows(store, manifest)?;
    if rows.len() != outcome.rows(layout) {
        found.damaged.push(METADATA.to_owned());
    } else if let Some(hash) = hash(METADATA)
        && !has_hash(store, METADATA, hash)?
    {
        tracing::warn!(
            "{}: changed since it was written; its rows count as they stand now",
            store.path(METADATA).display()
        );
    }
    let mut slow = Slow::pieces(
        format!("checking the pictures of {}", store.name().display()),
        layout.images as u64,
    );
    let mut rest = rows.as_slice();
    for unit in 0..layout.units() {
        slow.add(layout.unit(unit).len() as u64);
        let rows = match layout.ragged {
            true => leading_unit(&mut rest, unit),
            false => rows.get(layout.unit(unit)).unwrap_or_default(),
        };
        if !fit(rows, unit, layout) {
            continue;
        }
        let latents = latents_name(unit);
        let damaged = damaged(store, unit, rows, layout, hash(&latents))?;
        // Rows may be missing, and a ragged unit is any number of pictures: its latents tell it.
        let all = match (layout.ragged, rows.is_empty()) {
            (false, _) => true,
            (true, true) => hash(&latents).is_none(),
            (true, false) => holds_latents(store, &latents, rows.len(), layout)?,
        };
        if !damaged.is_empty() {
            found.damaged.extend(damaged);
        } else if all {
            found.whole.push((unit, rows.to_vec()));
        }
    }
    let whole: BTreeSet<usize> = found.whole.iter().map(|(unit, _)| *unit).collect();
    let rows_are_bad = found.damaged.is_empty() && whole.len() < layout.units();
    if rows_are_bad {
        found.damaged.push(METADATA.to_owned());
    }
    Ok(found)
}

/// The rows of a finished data set, as far as they can be read.
pub(super) fn rows(store: &Store, manifest: &DatasetManifest) -> Result<Vec<PictureRow>, Error> {
    let mut rows = leading_rows(store, METADATA)?;
    if manifest.deletes_dropped() {
        rows.extend(leading_rows(store, REJECTED)?);
        dataset::in_order(&mut rows);
    }
    Ok(rows)
}

/// Takes the rows of a unit off the front.
fn leading_unit<'a>(rest: &mut &'a [PictureRow], unit: usize) -> &'a [PictureRow] {
    let file = latents_name(unit);
    let count = rest
        .iter()
        .take_while(|row| row.latents.file == file)
        .count();
    let (own, others) = rest.split_at(count);
    *rest = others;
    own
}

/// The rows of a unit of an unfinished data set, if it is there and whole.
pub(super) fn done(
    store: &Store,
    unit: usize,
    layout: &Layout,
) -> Result<Option<Vec<PictureRow>>, Error> {
    let part = part(store, unit, layout)?;
    Ok(part.and_then(|(rows, damaged)| damaged.is_empty().then_some(rows)))
}

/// The rows of a unit, and its files that are missing or not what was written.
type Part = (Vec<PictureRow>, Vec<String>);

/// A unit of an unfinished data set, if its rows are there.
pub(super) fn part(store: &Store, unit: usize, layout: &Layout) -> Result<Option<Part>, Error> {
    let name = part_name(unit);
    let Some(bytes) = store.peek(&name)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).ok();
    let rows = text.and_then(|text| dataset::parse_rows(&store.path(&name), &text).ok());
    let Some(rows) = rows.filter(|rows| fit(rows, unit, layout)) else {
        return Ok(None);
    };
    let damaged = damaged(store, unit, &rows, layout, None)?;
    Ok(Some((rows, damaged)))
}

/// The files of a unit that are none, or empty ones, among all that are there with their sizes.
pub(super) fn lost(
    there: &BTreeMap<String, u64>,
    unit: usize,
    rows: &[PictureRow],
) -> Option<String> {
    let latents = (!rows.is_empty()).then(|| latents_name(unit));
    let pictures = rows.iter().filter_map(|row| row.file_name.clone());
    let mut names = latents.into_iter().chain(pictures);
    names.find(|name| there.get(name).is_none_or(|&size| size == 0))
}

/// Whether the file of embeddings is whole: the one of that hash, where it is known.
pub(super) fn is_text(store: &Store, hash: Option<&str>) -> Result<bool, Error> {
    match hash {
        Some(hash) => has_hash(store, TEXT, hash),
        None => Ok(shapes(store, TEXT)?.is_some()),
    }
}

/// Whether these rows are those of a unit.
fn fit(rows: &[PictureRow], unit: usize, layout: &Layout) -> bool {
    let file = latents_name(unit);
    let mut places = rows.iter().map(|row| &row.latents).enumerate();
    layout.fits(unit, rows.len())
        && places.all(|(index, latents)| latents.file == file && latents.index == index)
}

/// The files of a unit that are missing or not what was written.
fn damaged(
    store: &Store,
    unit: usize,
    rows: &[PictureRow],
    layout: &Layout,
    hash: Option<&str>,
) -> Result<Vec<String>, Error> {
    let mut damaged = Vec::new();
    let name = latents_name(unit);
    let latents = match hash {
        // None are drawn of a caption that has enough.
        _ if rows.is_empty() => true,
        Some(hash) => has_hash(store, &name, hash)?,
        None => holds_latents(store, &name, rows.len(), layout)?,
    };
    damaged.extend((!latents).then_some(name));
    let mut hashed = Vec::new();
    for row in rows {
        match (&row.file_name, &row.sha256) {
            (Some(name), Some(hash)) => hashed.push((name.as_str(), hash.as_str())),
            (Some(name), None) if store.size(name)?.is_none_or(|size| size == 0) => {
                damaged.push(name.clone());
            }
            _ => {}
        }
    }
    for ((name, _), compared) in hashed.iter().zip(store.compare(&hashed)?) {
        damaged.extend((compared != Compared::Same).then(|| (*name).to_owned()));
    }
    Ok(damaged)
}

fn holds_latents(store: &Store, name: &str, count: usize, layout: &Layout) -> Result<bool, Error> {
    let [c, h, w] = layout.latent;
    let expected = [count, c, h, w].map(|n| n as u64);
    let found = shapes(store, name)?;
    Ok(found.is_some_and(|found| found.get(LATENTS).is_some_and(|shape| *shape == expected)))
}

/// The shapes in a tensor file, if it is there and whole.
fn shapes(place: &Store, name: &str) -> Result<Option<BTreeMap<String, Vec<u64>>>, Error> {
    let Some(mut file) = place.opened(name)? else {
        return Ok(None);
    };
    match mapped::shapes(&place.path(name), &mut file.bytes, file.size) {
        Ok(shapes) => Ok(Some(shapes)),
        // It may be whole.
        Err(tensors::Error::Io(error)) if matches!(place, Store::Bucket(_)) => {
            Err(store::Error::from(error).into())
        }
        Err(_) => Ok(None),
    }
}

/// Whether a file is there and has that SHA-256.
fn has_hash(store: &Store, name: &str, hash: &str) -> Result<bool, Error> {
    Ok(store.compare(&[(name, hash)])? == [Compared::Same])
}

/// The rows of a file up to the first that is none.
fn leading_rows(store: &Store, name: &str) -> Result<Vec<PictureRow>, Error> {
    let bytes = store.peek(name)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text::unix_lines(text::without_bom(&text));
    let rows = text.lines().map(serde_json::from_str);
    Ok(rows.map_while(Result::ok).collect())
}
