//! The list of prompts: a CSV with a `Prompt` column, or plain lines of text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::fsio;

/// The CSV column that holds the prompts (the name the PopAlign data files use).
pub const COLUMN: &str = "Prompt";

/// Why a prompt list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// The bytes are not UTF-8 or not CSV.
    #[error("{} is not a readable CSV", path.display())]
    Csv {
        /// The prompt file.
        path: PathBuf,
        /// The parser's reason, with its line.
        source: csv::Error,
    },
    /// A text file that is not UTF-8.
    #[error("{} is not UTF-8 text (first bad byte at {offset})", path.display())]
    NotText {
        /// The prompt file.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// A CSV without the column that holds the prompts.
    #[error("{} has no `{COLUMN}` column; its columns are: {}", path.display(), columns.join(", "))]
    NoPromptColumn {
        /// The prompt file.
        path: PathBuf,
        /// The columns it does have.
        columns: Vec<String>,
    },
    /// No prompt at all.
    #[error("{} holds no prompts", path.display())]
    Empty {
        /// The prompt file.
        path: PathBuf,
    },
}

/// Prompts in the order of their file, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// The texts, trimmed, never empty, all different.
    pub texts: Vec<String>,
    /// How many lines were left out because they repeat an earlier one.
    pub repeated: usize,
}

/// Reads `path`: a `.csv` file by its `Prompt` column, any other file line by line.
///
/// Blank entries are skipped. A repeated prompt is kept once, as in the PopAlign scripts: noise is
/// addressed by the prompt's text, so a second copy would only draw the same pictures again.
pub fn read(path: &Path) -> Result<Prompts, Error> {
    let bytes = fsio::read(path)?;
    let is_csv = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let entries = if is_csv {
        csv_column(&bytes, path)?
    } else {
        lines(&bytes, path)?
    };
    let mut seen = HashSet::new();
    let mut texts = Vec::new();
    let mut repeated = 0;
    for text in entries {
        if seen.insert(text.clone()) {
            texts.push(text);
        } else {
            repeated += 1;
        }
    }
    if texts.is_empty() {
        return Err(Error::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(Prompts { texts, repeated })
}

/// The number that addresses a caption's noise and names its embeddings: the first four bytes,
/// little-endian, of the SHA-256 of its text.
pub fn caption_id(caption: &str) -> u32 {
    let hash = Sha256::digest(caption.as_bytes());
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn csv_column(bytes: &[u8], path: &Path) -> Result<Vec<String>, Error> {
    let bad = |source| Error::Csv {
        path: path.to_path_buf(),
        source,
    };
    let mut reader = csv_reader(bytes);
    let headers = reader.headers().map_err(bad)?.clone();
    if headers.iter().all(str::is_empty) {
        return Err(Error::Empty {
            path: path.to_path_buf(),
        });
    }
    let Some(column) = headers.iter().position(|h| h == COLUMN) else {
        return Err(Error::NoPromptColumn {
            path: path.to_path_buf(),
            columns: headers.iter().map(str::to_owned).collect(),
        });
    };
    let mut texts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        if let Some(text) = record.get(column).filter(|t| !t.is_empty()) {
            texts.push(text.to_owned());
        }
    }
    Ok(texts)
}

fn lines(bytes: &[u8], path: &Path) -> Result<Vec<String>, Error> {
    let text = std::str::from_utf8(without_bom(bytes)).map_err(|e| Error::NotText {
        path: path.to_path_buf(),
        offset: e.valid_up_to(),
    })?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Reads a table as people keep them: spaces around cells and a byte-order mark don't count.
pub(crate) fn csv_reader(bytes: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(without_bom(bytes))
}

/// Spreadsheet programs put a byte-order mark first; it would become part of the column's name.
fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, bytes: &[u8]) -> Result<Prompts, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fsio::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn a_csv_is_read_by_its_column_wherever_it_stands() {
        let csv = b"\xef\xbb\xbfid,Prompt\n1,doctor\n2,\"chef, head\"\n3,\n4, doctor \n";
        let prompts = parse("p.csv", csv).unwrap();
        assert_eq!(prompts.texts, ["doctor", "chef, head"]);
        assert_eq!(prompts.repeated, 1);
    }

    #[test]
    fn lines_are_trimmed_and_blank_ones_skipped() {
        let prompts = parse("p.txt", "a house\r\n\n  naïve painter \n".as_bytes()).unwrap();
        assert_eq!(prompts.texts, ["a house", "naïve painter"]);
    }

    #[test]
    fn a_csv_without_the_column_names_those_it_has() {
        let error = parse("p.csv", b"prompt,id\ndoctor,1\n").unwrap_err();
        assert!(
            matches!(&error, Error::NoPromptColumn { columns, .. } if columns == &["prompt", "id"])
        );
        assert!(error.to_string().contains("no `Prompt` column"));
    }

    #[test]
    fn empty_files_and_other_bytes_are_refused() {
        for (name, bytes) in [
            ("p.csv", &b""[..]),
            ("p.csv", b"Prompt\n\n"),
            ("p.txt", b" \n"),
        ] {
            assert!(
                matches!(parse(name, bytes), Err(Error::Empty { .. })),
                "{name}"
            );
        }
        let error = parse("p.txt", b"ok\n\xff\xfe").unwrap_err();
        assert!(matches!(error, Error::NotText { offset: 3, .. }));
        assert!(matches!(
            parse("p.csv", b"Prompt\n\xff\n"),
            Err(Error::Csv { .. })
        ));
    }
}
