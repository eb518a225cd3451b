//! The list of prompts: a table, JSON, or plain lines of text.

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Error;
use super::formats::Format;
use crate::base::{fsio, text};

/// Prompts in the order of their file, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// The texts, trimmed, never empty, all different.
    pub texts: Vec<String>,
    /// How many lines were left out because they repeat an earlier one.
    pub repeated: usize,
}

/// Reads `path` as what its name says it is: `.csv` and `.tsv` are tables, `.json` is a list, `.jsonl` has
/// a value on each line, and `.txt` or a name without an ending has a prompt on each line.
///
/// In tables and objects the prompt stands under `Prompt`, `prompt`, `text` or `caption`: where there are
/// several, under the first of them that isn't blank. Blank entries are skipped. A repeated prompt is
/// kept once, as in the PopAlign scripts: noise is addressed by the prompt's text, so a second copy would
/// only draw the same pictures again.
///
/// # Errors
/// [`Error`] naming the file, and the line or the entry.
pub fn read(path: &Path) -> Result<Prompts, Error> {
    let format = Format::of(path)?;
    let bytes = fsio::read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| Error::NotText {
        path: path.to_path_buf(),
        offset: e.valid_up_to(),
    })?;
    let entries = format.entries(text::without_bom(text), path)?;
    let entries = entries.iter().map(|text| text.trim());
    let mut seen = HashSet::new();
    let mut texts = Vec::new();
    let mut repeated = 0;
    for text in entries.filter(|text| !text.is_empty()) {
        if seen.insert(text) {
            texts.push(text.to_owned());
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
    fn a_table_without_the_column_names_those_it_has() {
        let error = parse("p.csv", b"words,id\ndoctor,1\n").unwrap_err();
        assert!(
            matches!(&error, Error::NoPromptColumn { columns, .. } if columns == &["words", "id"])
        );
        let text = error.to_string();
        assert!(text.contains("no `Prompt` column, nor `prompt`"), "{text}");
        // Tabs don't part a CSV's cells.
        assert!(matches!(
            parse("p.csv", b"Prompt\tid\nx\t1\n"),
            Err(Error::NoPromptColumn { .. })
        ));
    }

    #[test]
    fn every_format_is_read_as_what_it_is() {
        for (name, text) in [
            (
                "p.tsv",
                "Prompt\tid\ndoctor\t1\n\"chef, \"\"head\"\"\"\t2\n",
            ),
            ("P.TSV", "id\ttext\r1\tdoctor\r2\tchef, \"head\"\r"),
            (
                "p.tab",
                "\u{feff}caption\r\ndoctor\r\n\"chef, \"\"head\"\"\"",
            ),
            ("p.csv", "id,prompt\r1,doctor\r2,\"chef, \"\"head\"\"\"\r"),
            ("p.json", r#"["doctor", " chef, \"head\" ", ""]"#),
            (
                "p.json",
                "\u{feff}[{\"prompt\": \"doctor\", \"id\": 1},\r{\"text\": \"chef, \\\"head\\\"\"}]",
            ),
            (
                "p.jsonl",
                "\u{feff}\"doctor\"\r\n\r\n\"chef, \\\"head\\\"\"\r\n",
            ),
            (
                "p.ndjson",
                "{\"caption\":\"doctor\"}\r{\"Prompt\":\"chef, \\\"head\\\"\",\"text\":\"x\"}\r{\"prompt\":\"\"}",
            ),
            ("p.txt", "\u{feff}doctor\rchef, \"head\"\r"),
            ("p", "doctor\r\nchef, \"head\"\n"),
        ] {
            let prompts = parse(name, text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(prompts.texts, ["doctor", "chef, \"head\""], "{name}");
        }
    }

    #[test]
    fn of_several_columns_the_first_that_says_something_counts() {
        let csv = b"caption,text,Prompt\nc,t,P\nc,t,\n,,\n";
        assert_eq!(parse("p.csv", csv).unwrap().texts, ["P", "t"]);
    }

    #[test]
    fn what_is_no_list_of_prompts_is_refused() {
        for (name, text, expected) in [
            (
                "p.yaml",
                "- doctor\n",
                "p.yaml: prompts are not read from .yaml files; expected .csv",
            ),
            ("p.parquet", "PAR1", "not read from .parquet files"),
            (
                "p.csv",
                "Prompt\n\"a doctor\nnurse\n",
                "p.csv:2: the quote that opens here is never closed",
            ),
            (
                "p.tsv",
                "Prompt\rx\r\"a doctor\rnurse\r",
                "p.tsv:3: the quote that opens here",
            ),
            (
                "p.csv",
                "Prompt\nchef, head\n",
                "p.csv:2: 2 cells where the first row has 1",
            ),
            (
                "p.json",
                "{\"prompt\": \"x\"}",
                "p.json:1: expected a list of texts, or of objects",
            ),
            ("p.json", "\"x\"\r\"y\"\r", "p.json:2: not one JSON value"),
            (
                "p.json",
                "[\"x\", 3]",
                "p.json, entry 2: expected a text, or an object",
            ),
            (
                "p.json",
                "[{\"name\": \"x\", \"id\": 1}]",
                "entry 1: expected a text, or an object with a text under `Prompt`, `prompt`, `text` or `caption`; this one has: name, id",
            ),
            (
                "p.jsonl",
                "\"x\"\n\n[\"y\"]\n",
                "p.jsonl:3: expected a text, or an object",
            ),
            ("p.jsonl", "\"x\"\ndoctor\n", "p.jsonl:2: not JSON"),
            ("p.json", "[]", "holds no prompts"),
        ] {
            let error = parse(name, text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
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
        let error = parse("p.csv", b"Prompt\n\xff\n").unwrap_err();
        assert!(matches!(error, Error::NotText { offset: 7, .. }));
    }
}
