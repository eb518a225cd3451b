//! Folders whose pictures stand in a table: our data sets and other imagefolders.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::folder::{Gallery, Kind, Layout};
use super::{rows, walk};
use crate::base::fsio;
use crate::data::manifest;
use crate::score::{Error, Result};

const JSONL: &str = "metadata.jsonl";
const CSV: &str = "metadata.csv";
/// Hugging Face reads it, we don't.
const PARQUET: &str = "metadata.parquet";

/// Words by which Hugging Face knows the folder of a split.
const SPLITS: [&str; 10] = [
    "train",
    "training",
    "validation",
    "valid",
    "dev",
    "val",
    "test",
    "testing",
    "eval",
    "evaluation",
];

/// Reads the folder's tables, if there are any.
pub(super) fn read(dir: &Path) -> Result<Option<Gallery>> {
    let config = dataset_config(dir)?;
    let (folders, notes) = match config {
        // Our data sets have one table.
        Some(_) => (vec![PathBuf::new()], Vec::new()),
        None => folders(dir)?,
    };
    let mut gallery = Gallery {
        dir: dir.to_path_buf(),
        layout: match config {
            Some(_) => Layout::Dataset,
            None => Layout::Imagefolder,
        },
        pictures: Vec::new(),
        without_files: 0,
        unlisted: Vec::new(),
        notes,
        config,
    };
    let mut any = false;
    for folder in folders {
        any |= add(&mut gallery, &folder)?;
    }
    if !any {
        return Ok(None);
    }
    gallery.unlisted = unlisted(&gallery)?;
    Ok(Some(gallery))
}

/// The pictures in a gallery's folder that no row names.
fn unlisted(gallery: &Gallery) -> Result<Vec<String>> {
    let listed: HashSet<&str> = gallery.pictures.iter().map(|p| p.name.as_str()).collect();
    let files = walk::files(&gallery.dir, &walk::is_picture)?;
    let names = files.iter().map(|file| walk::slashed(file));
    Ok(names
        .filter(|name| !listed.contains(name.as_str()))
        .collect())
}

/// Adds the pictures of the table in `folder`, a path from the gallery's. Says if there is a table.
fn add(gallery: &mut Gallery, folder: &Path) -> Result<bool> {
    let place = gallery.dir.join(folder);
    let [jsonl, csv, parquet] = [JSONL, CSV, PARQUET].map(|name| place.join(name));
    let (path, rows) = if jsonl.is_file() {
        let rows = rows::of_json_lines(&jsonl)?;
        (jsonl, rows)
    } else if csv.is_file() {
        let rows = rows::of_csv(&csv)?;
        (csv, rows)
    } else if parquet.is_file() {
        return Err(Error::Parquet { path: parquet });
    } else {
        return Ok(false);
    };
    let config = dataset_config(&place)?;
    let mut from = walk::slashed(folder);
    if !from.is_empty() {
        from.push('/');
    }
    for (line, row) in rows {
        // Only the manifest makes a column's name ours.
        let picture = match config {
            Some(_) => rows::own(row, &from),
            None => rows::picture(&row, &from),
        };
        let picture = picture.map_err(|problem| Error::Row {
            path: path.clone(),
            line,
            problem,
        })?;
        match picture {
            Some(mut picture) => {
                // To a run without axes every caption was neutral, so that it was says nothing.
                let undecided = config.as_ref().is_some_and(without_axes);
                picture.kind = picture
                    .kind
                    .filter(|kind| !undecided || *kind != Kind::Neutral);
                gallery.pictures.push(picture);
            }
            None => gallery.without_files += 1,
        }
    }
    Ok(true)
}

/// The folders with tables, in the order of their names, as Hugging Face finds them: those of splits,
/// if there are any, otherwise all. With what to say of those that are left out.
fn folders(dir: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let is_table = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        path.is_file() && [JSONL, CSV, PARQUET].iter().any(|table| name == *table)
    };
    let tables = walk::files(dir, &is_table)?;
    let folder = |table: PathBuf| table.parent().map(Path::to_path_buf);
    let mut folders: Vec<PathBuf> = tables.into_iter().filter_map(folder).collect();
    folders.dedup();
    folders.retain(|folder| !parts(folder).any(|part| part.starts_with("__")));
    let (splits, others): (Vec<_>, Vec<_>) = folders
        .into_iter()
        .partition(|folder| parts(folder).any(|part| is_split(&part)));
    if splits.is_empty() {
        return Ok((others, Vec::new()));
    }
    let note = |folder: PathBuf| {
        let folder = dir.join(folder);
        let folder = folder.display();
        format!("{folder}: its table is left out: beside splits, only they count")
    };
    Ok((splits, others.into_iter().map(note).collect()))
}

fn parts(folder: &Path) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    folder.iter().map(std::ffi::OsStr::to_string_lossy)
}

/// Whether a folder's name has the word of a split in it, as `train`, `my-test set` and `val_2` have.
fn is_split(name: &str) -> bool {
    let between = |c: char| matches!(c, '-' | '.' | '_' | ' ') || c.is_ascii_digit();
    name.split(between).any(|word| SPLITS.contains(&word))
}

/// The configuration in the manifest of one of our data sets.
fn dataset_config(dir: &Path) -> Result<Option<Map<String, Value>>> {
    let path = dir.join(manifest::FILE);
    if !path.is_file() {
        return Ok(None);
    }
    // Any folder may have a file of this name; only ours say what they are.
    let Ok(value) = serde_json::from_slice::<Value>(&fsio::read(&path)?) else {
        return Ok(None);
    };
    if value.get("format").and_then(Value::as_str) != Some(manifest::FORMAT) {
        return Ok(None);
    }
    if value.get("outcome").is_none_or(Value::is_null) {
        return Err(Error::Unfinished {
            dir: dir.to_path_buf(),
        });
    }
    match value.get("config") {
        Some(Value::Object(config)) => Ok(Some(config.clone())),
        _ => Ok(Some(Map::new())),
    }
}

fn without_axes(config: &Map<String, Value>) -> bool {
    config.get("axes").is_none_or(Value::is_null)
}

#[cfg(test)]
mod tests;
