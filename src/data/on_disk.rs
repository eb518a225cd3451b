//! What of a data set is on the disk: completeness is what is there, not what a manifest says.
//!
//! A file counts if it is the one that was written: by its SHA-256 where that is known (pictures' stand
//! in their rows, those of a finished set's other files in its manifest), otherwise by its form.

use std::collections::BTreeSet;
use std::path::Path;

use super::dataset::{self, LATENTS, METADATA, PictureRow, REJECTED, TEXT};
use super::manifest::{DatasetManifest, Layout, Outcome};
use crate::base::{fsio, slow::Slow, text};
use crate::tensors::mapped::TensorFile;

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
pub(super) fn survey(dir: &Path, manifest: &DatasetManifest, outcome: &Outcome) -> Survey {
    let mut found = Survey::default();
    let hash = |name: &str| outcome.sha256.get(name).map(String::as_str);
    let layout = &manifest.layout;
    if !is_text(&dir.join(TEXT), hash(TEXT)) {
        found.damaged.push(TEXT.to_owned());
    }
    let rows = rows(dir, manifest);
    if rows.len() != outcome.rows(layout) {
        found.damaged.push(METADATA.to_owned());
    } else if !hash(METADATA).is_none_or(|hash| has_hash(&dir.join(METADATA), hash)) {
        tracing::warn!(
            "{}: changed since it was written; its rows count as they stand now",
            dir.join(METADATA).display()
        );
    }
    let mut slow = Slow::pieces(
        format!("checking the pictures of {}", dir.display()),
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
        let damaged = damaged(dir, unit, rows, layout, hash(&latents));
        // Rows may be missing, and a ragged unit is any number of pictures: its latents tell it.
        let all = match (layout.ragged, rows.is_empty()) {
            (false, _) => true,
            (true, true) => hash(&latents).is_none(),
            (true, false) => holds_latents(&dir.join(&latents), rows.len(), layout),
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
    found
}

/// The rows of a finished data set, as far as they can be read.
pub(super) fn rows(dir: &Path, manifest: &DatasetManifest) -> Vec<PictureRow> {
    let mut rows = leading_rows(&dir.join(METADATA));
    if manifest.deletes_dropped() {
        rows.extend(leading_rows(&dir.join(REJECTED)));
        dataset::in_order(&mut rows);
    }
    rows
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
pub(super) fn done(dir: &Path, unit: usize, layout: &Layout) -> Option<Vec<PictureRow>> {
    let (rows, damaged) = part(dir, unit, layout)?;
    damaged.is_empty().then_some(rows)
}

/// The rows of a unit of an unfinished data set, if they are there, and its files that are missing or not
/// what was written.
pub(super) fn part(
    dir: &Path,
    unit: usize,
    layout: &Layout,
) -> Option<(Vec<PictureRow>, Vec<String>)> {
    let rows = dataset::read_rows(&dir.join(part_name(unit))).ok()?;
    let damaged = damaged(dir, unit, &rows, layout, None);
    fit(&rows, unit, layout).then_some((rows, damaged))
}

/// The pictures among some rows that are no files, or empty ones.
pub(super) fn lost<'a>(dir: &Path, rows: &'a [PictureRow]) -> Vec<&'a str> {
    let names = rows.iter().filter_map(|row| row.file_name.as_deref());
    let there = |name: &&str| dir.join(name).metadata().is_ok_and(|file| file.len() > 0);
    names.filter(|name| !there(name)).collect()
}

/// Whether the file of embeddings is whole: the one of that hash, where it is known.
pub(super) fn is_text(path: &Path, hash: Option<&str>) -> bool {
    match hash {
        Some(hash) => has_hash(path, hash),
        None => TensorFile::open(path).is_ok(),
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
    dir: &Path,
    unit: usize,
    rows: &[PictureRow],
    layout: &Layout,
    hash: Option<&str>,
) -> Vec<String> {
    let name = latents_name(unit);
    let latents = match hash {
        // None are drawn of a caption that has enough.
        _ if rows.is_empty() => true,
        Some(hash) => has_hash(&dir.join(&name), hash),
        None => holds_latents(&dir.join(&name), rows.len(), layout),
    };
    let lost = lost(dir, rows);
    let whole = |name: &str, row: &PictureRow| match &row.sha256 {
        Some(hash) => has_hash(&dir.join(name), hash),
        None => !lost.contains(&name),
    };
    let pictures = rows.iter().filter_map(|row| {
        let name = row.file_name.as_deref()?;
        (!whole(name, row)).then(|| name.to_owned())
    });
    let latents = (!latents).then_some(name);
    latents.into_iter().chain(pictures).collect()
}

fn holds_latents(path: &Path, count: usize, layout: &Layout) -> bool {
    let [c, h, w] = layout.latent;
    TensorFile::open(path)
        .is_ok_and(|file| file.shape(LATENTS) == Some([count, c, h, w].as_slice()))
}

/// Whether a file is there and has that SHA-256. One that can't be read is not whole either: what is
/// written in its place will say why.
pub(super) fn has_hash(path: &Path, hash: &str) -> bool {
    fsio::sha256(path).is_ok_and(|found| found == hash)
}

/// The rows of a file up to the first that is none.
fn leading_rows(path: &Path) -> Vec<PictureRow> {
    let bytes = fsio::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text::unix_lines(text::without_bom(&text));
    let rows = text.lines().map(serde_json::from_str);
    rows.map_while(Result::ok).collect()
}
