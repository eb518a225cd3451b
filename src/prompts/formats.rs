//! The files that prompts are read from, each as what its name says it is.

use std::path::Path;

use serde_json::Value;

use super::Error;
use super::columns::{ANY_COLUMN, COLUMNS, caption};
use crate::base::table::{self, Table};
use crate::base::{json, text};

/// How a file holds prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One on each line.
    Lines,
    /// A table with a column of them.
    Table,
    /// One list of texts, or of objects with a text.
    Json,
    /// The same, one on each line.
    JsonLines,
}

impl Format {
    /// What a file's name says. Names that say nothing are lines of text; what isn't known is refused,
    /// because every line of it would be drawn.
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let Some(extension) = path.extension() else {
            return Ok(Self::Lines);
        };
        let extension = extension.to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "txt" | "text" | "list" => Ok(Self::Lines),
            "csv" | "tsv" | "tab" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            _ => Err(Error::Format {
                path: path.to_path_buf(),
                extension: extension.into_owned(),
            }),
        }
    }

    /// What the file says, in its order; blank where it says nothing.
    pub(super) fn entries(self, text: &str, path: &Path) -> Result<Vec<String>, Error> {
        match self {
            Self::Lines => Ok(text::unix_lines(text).lines().map(str::to_owned).collect()),
            Self::Table => column(text, path),
            Self::Json => list(text, path),
            Self::JsonLines => lines(text, path),
        }
    }
}

fn column(text: &str, path: &Path) -> Result<Vec<String>, Error> {
    let table = Table::parse(text, table::delimiter(path)).map_err(|e| Error::Line {
        path: path.to_path_buf(),
        line: e.line,
        problem: e.problem,
    })?;
    let columns = &table.columns;
    if columns.iter().all(String::is_empty) {
        return Ok(Vec::new());
    }
    if !columns.iter().any(|name| COLUMNS.contains(&name.as_str())) {
        return Err(Error::NoPromptColumn {
            path: path.to_path_buf(),
            columns: table.columns,
        });
    }
    let rows = table.objects().into_iter();
    let text = rows.filter_map(|(_, row)| caption(&row).map(str::to_owned));
    Ok(text.collect())
}

fn list(text: &str, path: &Path) -> Result<Vec<String>, Error> {
    let bad = |line, problem| Error::Line {
        path: path.to_path_buf(),
        line,
        problem,
    };
    let text = text::unix_lines(text);
    let list: Value = serde_json::from_str(&text).map_err(|e| {
        let hint = "JSON lines are read from .jsonl files";
        bad(e.line(), format!("not one JSON value: {e}; {hint}"))
    })?;
    let Value::Array(list) = list else {
        let expected = format!("expected a list of texts, or of objects with {ANY_COLUMN}");
        return Err(bad(1, format!("{expected}, got {}", kind(&list))));
    };
    let entries = (1..).zip(&list);
    let entries = entries.map(|(entry, value)| {
        said(value).map_err(|problem| Error::Entry {
            path: path.to_path_buf(),
            entry,
            problem,
        })
    });
    entries.collect()
}

fn lines(text: &str, path: &Path) -> Result<Vec<String>, Error> {
    let bad = |line, problem| Error::Line {
        path: path.to_path_buf(),
        line,
        problem,
    };
    let values = json::values(text).map_err(|(line, e)| bad(line, format!("not JSON: {e}")))?;
    let entries = values
        .iter()
        .map(|(line, value)| said(value).map_err(|e| bad(*line, e)));
    entries.collect()
}

/// The prompt that a value is or holds.
fn said(value: &Value) -> Result<String, String> {
    let expected = format!("expected a text, or an object with a text under {ANY_COLUMN}");
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(row) => match caption(row) {
            Some(text) => Ok(text.to_owned()),
            None => {
                let keys = row
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(format!("{expected}; this one has: {keys}"))
            }
        },
        other => Err(format!("{expected}, got {}", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
