//! The rows of an imagefolder's table, as they stand there and as pictures.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::folder::{Kind, Picture};
use crate::base::table::{self, Table};
use crate::base::{fsio, json};
use crate::prompts::{ANY_COLUMN, caption};
use crate::score::{Error, Result};

/// The column that names pictures.
const FILE_NAME: &str = "file_name";

/// A part of a row, or what is wrong with it.
type Part<T> = std::result::Result<T, String>;

/// A row of a table: its line and what it says.
pub(super) type Row = (usize, Map<String, Value>);

/// What rows of our own data sets say; to them these names have no other meaning.
#[derive(Deserialize)]
struct Own {
    file_name: Option<String>,
    prompt: String,
    neutral_prompt: Option<String>,
    kind: Option<Kind>,
    #[serde(default)]
    axes: BTreeMap<String, String>,
    seed: Option<u64>,
    image_id: Option<u64>,
}

/// The rows of `metadata.jsonl`.
pub(super) fn of_json_lines(path: &Path) -> Result<Vec<Row>> {
    let text = fsio::read_to_string(path)?;
    let bad = |line, problem: &str| Error::Row {
        path: path.to_path_buf(),
        line,
        problem: format!("not a row of an imagefolder: {problem}"),
    };
    let values = json::values(&text).map_err(|(line, e)| bad(line, &e.to_string()))?;
    let rows = values.into_iter().map(|(line, value)| match value {
        Value::Object(row) => Ok((line, row)),
        _ => Err(bad(line, "expected an object")),
    });
    rows.collect()
}

/// The rows of `metadata.csv`.
pub(super) fn of_csv(path: &Path) -> Result<Vec<Row>> {
    let bad = |line, problem| Error::Row {
        path: path.to_path_buf(),
        line,
        problem,
    };
    let text = fsio::read_to_string(path)?;
    let table = Table::parse(&text, table::delimiter(path)).map_err(|e| bad(e.line, e.problem))?;
    let columns: Map<String, Value> = (table.columns.iter())
        .map(|name| (name.clone(), String::new().into()))
        .collect();
    let has = || table.columns.join(", ");
    file_column(&columns).map_err(|problem| bad(1, format!("{problem} among {}", has())))?;
    if caption(&columns).is_none() {
        return Err(bad(1, format!("no column {ANY_COLUMN} among {}", has())));
    }
    Ok(table.objects())
}

/// The picture of a row of somebody's imagefolder, which is a file and a caption: whatever else there
/// is, under names that our data sets use too, is theirs. Nothing for a row without a file.
pub(super) fn picture(row: &Map<String, Value>, folder: &str) -> Part<Option<Picture>> {
    let name = match &row[file_column(row)?] {
        Value::Null => return Ok(None),
        Value::String(name) => inside(name, folder)?,
        other => {
            let problem = "not a row of an imagefolder: file_name: expected a text";
            return Err(format!("{problem}, got {other}"));
        }
    };
    let prompt = caption(row).ok_or(format!("no caption: expected a text under {ANY_COLUMN}"))?;
    Ok(Some(Picture {
        key: name.clone(),
        name,
        prompt: prompt.to_owned(),
        kind: None,
        axes: BTreeMap::new(),
        neutral: None,
    }))
}

/// The picture of a row of one of our data sets. Nothing for a row whose picture was not kept.
pub(super) fn own(row: Map<String, Value>, folder: &str) -> Part<Option<Picture>> {
    let row: Own = serde_json::from_value(Value::Object(row))
        .map_err(|e| format!("not a row of a data set: {e}"))?;
    let Some(name) = row.file_name else {
        return Ok(None);
    };
    let name = inside(&name, folder)?;
    Ok(Some(Picture {
        key: match (row.seed, row.image_id) {
            (Some(seed), Some(id)) => format!("seed {seed}, picture {id}"),
            _ => name.clone(),
        },
        name,
        prompt: row.prompt,
        kind: match row.kind {
            None if !row.axes.is_empty() => Some(Kind::Specific),
            kind => kind,
        },
        axes: row.axes,
        neutral: row.neutral_prompt,
    }))
}

/// The name of the column with the pictures: `file_name`, or the only one that ends so.
fn file_column(row: &Map<String, Value>) -> Part<&str> {
    if row.contains_key(FILE_NAME) {
        return Ok(FILE_NAME);
    }
    let others = row.keys().filter(|key| key.ends_with("_file_name"));
    match others.map(String::as_str).collect::<Vec<_>>()[..] {
        [name] => Ok(name),
        [] => Err(format!("no `{FILE_NAME}` column")),
        _ => Err(format!(
            "no `{FILE_NAME}` column, and more than one that ends so,"
        )),
    }
}

/// The path of a row's file from the gallery's folder. As to Hugging Face, `\` parts folders as `/` does,
/// and `.` and `..` are steps that must not lead out of the table's folder.
fn inside(name: &str, folder: &str) -> Part<String> {
    let outside = || format!("`{name}` is not a path inside the folder");
    let slashed = name.replace('\\', "/");
    let mut path = PathBuf::new();
    for part in Path::new(&slashed).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return Err(outside()),
        }
    }
    match path.to_str() {
        Some("") | None => Err(outside()),
        Some(path) => Ok(format!("{folder}{path}")),
    }
}
