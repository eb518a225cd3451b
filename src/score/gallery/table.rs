//! Folders whose pictures stand in a table: our data sets and other imagefolders.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::folder::{Gallery, Kind, Layout, Picture};
use crate::base::fsio;
use crate::data::manifest;
use crate::prompts::csv_reader;
use crate::score::{Error, Result};

const JSONL: &str = "metadata.jsonl";
const CSV: &str = "metadata.csv";

/// A row of any imagefolder; what only our data sets have is optional.
#[derive(Debug, Default, Deserialize)]
struct Row {
    file_name: Option<String>,
    #[serde(alias = "text", alias = "caption")]
    prompt: Option<String>,
    neutral_prompt: Option<String>,
    kind: Option<Kind>,
    axes: Option<BTreeMap<String, String>>,
    seed: Option<u64>,
    image_id: Option<u64>,
}

/// Reads the folder's table, if it has one.
pub(super) fn read(dir: &Path) -> Result<Option<Gallery>> {
    let config = dataset_config(dir)?;
    let layout = match config {
        Some(_) => Layout::Dataset,
        None => Layout::Imagefolder,
    };
    // To a run without axes every caption was neutral, so that it was says nothing.
    let undecided = config.as_ref().is_some_and(without_axes);
    let (path, rows) = if dir.join(JSONL).is_file() {
        let path = dir.join(JSONL);
        let rows = json_rows(&path)?;
        (path, rows)
    } else if dir.join(CSV).is_file() {
        let path = dir.join(CSV);
        let rows = csv_rows(&path)?;
        (path, rows)
    } else {
        return Ok(None);
    };
    let mut gallery = Gallery {
        dir: dir.to_path_buf(),
        layout,
        pictures: Vec::with_capacity(rows.len()),
        without_files: 0,
        config,
    };
    for (index, row) in rows.into_iter().enumerate() {
        let bad = |problem: &str| Error::Row {
            path: path.clone(),
            line: index + 1 + usize::from(path.ends_with(CSV)),
            problem: problem.to_owned(),
        };
        match picture(row, undecided) {
            Ok(Some(picture)) => gallery.pictures.push(picture),
            Ok(None) => gallery.without_files += 1,
            Err(problem) => return Err(bad(&problem)),
        }
    }
    Ok(Some(gallery))
}

fn picture(row: Row, undecided: bool) -> std::result::Result<Option<Picture>, String> {
    let Some(name) = row.file_name else {
        return Ok(None);
    };
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
    if name.is_empty() || !Path::new(&name).components().all(inside) {
        return Err(format!("`{name}` is not a path inside the folder"));
    }
    let prompt = row
        .prompt
        .ok_or("no caption: expected `prompt`, `text` or `caption`")?;
    let axes = row.axes.unwrap_or_default();
    let kind = match row.kind {
        Some(Kind::Neutral) if undecided => None,
        None if !axes.is_empty() => Some(Kind::Specific),
        kind => kind,
    };
    let key = match (row.seed, row.image_id) {
        (Some(seed), Some(id)) => format!("seed {seed}, picture {id}"),
        _ => name.clone(),
    };
    Ok(Some(Picture {
        name,
        prompt,
        kind,
        axes,
        neutral: row.neutral_prompt,
        key,
    }))
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

fn json_rows(path: &Path) -> Result<Vec<Row>> {
    let text = fsio::read_to_string(path)?;
    let lines = text.lines().enumerate();
    let rows = lines.filter(|(_, line)| !line.trim().is_empty());
    rows.map(|(index, line)| {
        serde_json::from_str(line).map_err(|e| Error::Row {
            path: path.to_path_buf(),
            line: index + 1,
            problem: format!("not a row of an imagefolder: {e}"),
        })
    })
    .collect()
}

fn csv_rows(path: &Path) -> Result<Vec<Row>> {
    let bad = |line: usize, problem: String| Error::Row {
        path: path.to_path_buf(),
        line,
        problem,
    };
    let bytes = fsio::read(path)?;
    let mut reader = csv_reader(&bytes);
    let headers = reader.headers().map_err(|e| bad(1, e.to_string()))?.clone();
    let column = |names: &[&str]| headers.iter().position(|header| names.contains(&header));
    let has = || headers.iter().collect::<Vec<_>>().join(", ");
    let file = column(&["file_name"])
        .ok_or_else(|| bad(1, format!("no `file_name` column among {}", has())))?;
    let prompt = column(&["prompt", "text", "caption"]).ok_or_else(|| {
        let expected = "no `prompt`, `text` or `caption` column";
        bad(1, format!("{expected} among {}", has()))
    })?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            bad(usize::try_from(line).unwrap_or(0), e.to_string())
        })?;
        let cell = |index: usize| record.get(index).unwrap_or_default().to_owned();
        rows.push(Row {
            file_name: Some(cell(file)),
            prompt: Some(cell(prompt)),
            ..Row::default()
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fsio::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn our_rows_bring_kind_axes_and_seed() {
        let rows = concat!(
            r#"{"file_name":"images/a.png","prompt":"a photo of a chef","neutral_prompt":"a photo of a chef","kind":"neutral","axes":{},"seed":7,"image_id":3,"latents":{"file":"x","index":0}}"#,
            "\n",
            r#"{"file_name":null,"prompt":"a photo of a old chef","kind":"specific","axes":{"age":"old"},"seed":7,"image_id":0}"#,
            "\n"
        );
        for (axes, kind) in [("{\"sha256\":\"x\"}", Some(Kind::Neutral)), ("null", None)] {
            let manifest = format!(
                r#"{{"format":"{}","config":{{"axes":{axes}}},"outcome":{{}}}}"#,
                manifest::FORMAT
            );
            let dir = folder(&[(JSONL, rows), (manifest::FILE, &manifest)]);
            let gallery = read(dir.path()).unwrap().unwrap();
            assert_eq!(gallery.layout, Layout::Dataset);
            assert_eq!(gallery.without_files, 1);
            assert_eq!(gallery.pictures[0].kind, kind);
            assert_eq!(gallery.pictures[0].key, "seed 7, picture 3");
        }
        let unfinished = format!(r#"{{"format":"{}","config":{{}}}}"#, manifest::FORMAT);
        let dir = folder(&[(JSONL, rows), (manifest::FILE, &unfinished)]);
        assert!(matches!(read(dir.path()), Err(Error::Unfinished { .. })));
    }

    #[test]
    fn foreign_tables_are_read_by_their_column_names() {
        let jsonl = folder(&[(JSONL, "{\"file_name\":\"a.jpg\",\"text\":\"a cat\"}\n\n")]);
        let csv = folder(&[(CSV, "\u{feff}file_name,license,text\na.jpg,cc0,\"a cat\"\n")]);
        for dir in [jsonl, csv] {
            let gallery = read(dir.path()).unwrap().unwrap();
            assert_eq!(gallery.layout, Layout::Imagefolder);
            let picture = &gallery.pictures[0];
            assert_eq!(
                (picture.name.as_str(), picture.prompt.as_str()),
                ("a.jpg", "a cat")
            );
            assert_eq!((picture.kind, picture.key.as_str()), (None, "a.jpg"));
        }
    }

    #[test]
    fn bad_rows_name_the_line() {
        for (name, text, expected) in [
            (
                JSONL,
                "{\"file_name\":\"a.png\",\"text\":\"x\"}\n{\"file_name\":",
                ".jsonl:2: not a row",
            ),
            (JSONL, "{\"file_name\":\"a.png\"}", ".jsonl:1: no caption"),
            (
                JSONL,
                "{\"file_name\":\"../a.png\",\"text\":\"x\"}",
                "not a path inside",
            ),
            (
                CSV,
                "file,text\na,b\n",
                "no `file_name` column among file, text",
            ),
            (
                CSV,
                "file_name,words\na,b\n",
                "no `prompt`, `text` or `caption` column",
            ),
            (
                CSV,
                "file_name,text\na,b\n/etc/x,b\n",
                ".csv:3: `/etc/x` is not a path inside",
            ),
        ] {
            let error = read(folder(&[(name, text)]).path()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
