//! What can be wrong with a data set.

use std::path::PathBuf;

use super::manifest;
use crate::base::fsio;
use crate::store;
use crate::tensors;

/// What to do with the URL of a data set where a folder is expected.
pub const FETCH: &str =
    "fetch it first: pa-datagen merge URL --out DIR looks at every byte as it copies it";

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// A file of a folder or an object store can't be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A tensor file.
    #[error(transparent)]
    Tensors(#[from] tensors::Error),
    /// Nothing that is a data set.
    #[error("{} is not a data set: it has no {}", dir.display(), manifest::FILE)]
    NotADataset {
        /// The folder.
        dir: PathBuf,
    },
    /// A data set to be read in place that is in an object store.
    #[error("{} is a URL, and data sets are read from folders", url.display())]
    Remote {
        /// The URL.
        url: PathBuf,
    },
    /// Generation was interrupted or other shards are still to come.
    #[error("the data set {} is unfinished", dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// A row that is not JSON or lacks a field.
    #[error("{}:{line}: not a row of a data set", path.display())]
    Json {
        /// The rows' file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A row that contradicts another file.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The rows' file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file that the manifest speaks of.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Data sets that are not to be used together.
    #[error("{} and {} differ in {what}", first.display(), second.display())]
    Differ {
        /// A data set.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
        /// In what.
        what: String,
    },
    /// A folder that holds something already.
    #[error("{} is not empty", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Data sets that don't make a whole one.
    #[error("{units} of {of} units are in none of these data sets; {} has the others", dir.display())]
    Incomplete {
        /// What they were joined to.
        dir: PathBuf,
        /// How many are missing.
        units: usize,
        /// How many there are to be.
        of: usize,
    },
    /// Fewer or more rows than the manifest says.
    #[error("{} has {found} rows, its manifest says {expected}", path.display())]
    RowCount {
        /// The rows' file.
        path: PathBuf,
        /// The manifest's count.
        expected: usize,
        /// The rows found.
        found: usize,
    },
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Store(error) | Error::Manifest(manifest::Error::File(error))
                if error.hint().is_some() =>
            {
                error.hint()
            }
            Error::File(_)
            | Error::Store(_)
            | Error::Tensors(_)
            | Error::Json { .. }
            | Error::Row { .. }
            | Error::RowCount { .. }
            | Error::Missing { .. } => Some(
                "run pa-datagen with the same options again: it makes what is missing or damaged, \
                 and leaves the rest",
            ),
            Error::Remote { .. } => Some(FETCH),
            Error::Unfinished { .. } => {
                Some("run the same pa-datagen command again; it goes on where it stopped")
            }
            Error::Manifest(manifest::Error::Changed { .. }) => Some(
                "repeat the options it was begun with to go on with it, or choose another --out",
            ),
            Error::Manifest(manifest::Error::Json { .. }) => Some(
                "nothing else says how the data set was made: choose another folder, or remove this one",
            ),
            Error::Occupied { .. } => Some("choose another folder, or empty it yourself"),
            Error::Incomplete { .. } => Some(
                "merge them once more with what is missing, or run the same pa-datagen command with \
                 this folder as --out: it makes the rest",
            ),
            Error::NotADataset { .. } | Error::Manifest(_) | Error::Differ { .. } => None,
        }
    }
}
