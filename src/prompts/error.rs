//! Why a list of prompts can't be used.

use std::path::PathBuf;

use crate::base::fsio;

/// Why a prompt list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// A kind of file that prompts are not read from.
    #[error(
        "{}: prompts are not read from .{extension} files; expected .csv, .tsv, .json, .jsonl, or .txt with \
         a prompt on each line",
        path.display()
    )]
    Format {
        /// The prompt file.
        path: PathBuf,
        /// What its name ends with.
        extension: String,
    },
    /// The bytes are not UTF-8.
    #[error("{} is not UTF-8 text (first bad byte at {offset})", path.display())]
    NotText {
        /// The prompt file.
        path: PathBuf,
        /// Offset of the first byte that is not UTF-8.
        offset: usize,
    },
    /// Not what the file's name says, or a line that is no prompt.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The prompt file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// An entry of a JSON list that is no prompt.
    #[error("{}, entry {entry}: {problem}", path.display())]
    Entry {
        /// The prompt file.
        path: PathBuf,
        /// The entry, from 1.
        entry: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A table without a column that holds prompts.
    #[error("{} has no `Prompt` column, nor `prompt`, `text` or `caption`; its columns are: {}", path.display(), columns.join(", "))]
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
