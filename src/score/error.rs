//! What can go wrong in scoring.

use std::path::PathBuf;

use crate::base::{LeftOut, fsio};
use crate::data::dataset::FETCH;

/// Why pictures could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error(transparent)]
    Io(#[from] fsio::Error),
    /// The classifier chain.
    #[error(transparent)]
    Chain(#[from] crate::judge::chain::Error),
    /// What the chain's answers mean, or CLIP.
    #[error(transparent)]
    Judge(Box<crate::judge::Error>),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The axes file.
    #[error(transparent)]
    Axes(#[from] crate::prompts::axes::Error),
    /// A tensor file.
    #[error(transparent)]
    Tensors(#[from] crate::tensors::Error),
    /// A file of `--card` that has no place for the table.
    #[error(
        "{}: expected a model card of pa-finetune, with the marks {} and {} once each",
        path.display(),
        marks[0],
        marks[1]
    )]
    Card {
        /// The file.
        path: PathBuf,
        /// What its place begins and ends with.
        marks: [&'static str; 2],
    },
    /// A folder to score does not exist.
    #[error("there is no folder {}", dir.display())]
    NoFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder without pictures.
    #[error("{} holds no pictures{}", dir.display(), if *without_files { ": its rows name no files" } else { "" })]
    Empty {
        /// The folder.
        dir: PathBuf,
        /// Whether it has rows that stand for pictures that were not kept.
        without_files: bool,
    },
    /// Pictures of which none, or none that a metric asks for, can be scored.
    #[error("nothing is left to score{}: {left_out}", if *against { " of --against" } else { "" })]
    NothingLeft {
        /// Whether the pictures are those to compare with.
        against: bool,
        /// What was left out, and why.
        left_out: LeftOut,
    },
    /// A data set whose generation has not ended.
    #[error("the data set {} is unfinished", dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// A table of pictures that can't be read.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A table of pictures in a format that isn't read.
    #[error("{}: tables of pictures are not read from Parquet", path.display())]
    Parquet {
        /// The table.
        path: PathBuf,
    },
    /// Folders can't be paired.
    #[error("--against names {against} folders for {scored} to score; they are paired in order")]
    Unequal {
        /// Number of folders to score.
        scored: usize,
        /// Number of folders to compare with.
        against: usize,
    },
    /// The two sides of a comparison have no prompt in common.
    #[error("no prompt of {} is among those of --against {}", scored.display(), against.display())]
    NothingInCommon {
        /// The first folder to score.
        scored: PathBuf,
        /// The first folder to compare with.
        against: PathBuf,
    },
    /// A metric that does not exist.
    #[error("there is no metric `{name}`; there are {}", known.join(", "))]
    UnknownMetric {
        /// What was asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A metric of which there are versions that can't be compared.
    #[error("the numbers of `{name}` differ by its version: ask for {}", versions.join(" or "))]
    Versions {
        /// What was asked for.
        name: &'static str,
        /// The metrics.
        versions: [&'static str; 2],
    },
    /// A metric that needs something that was not given.
    #[error("the metric `{name}` needs {needs}")]
    MetricNeeds {
        /// The metric.
        name: String,
        /// What is missing.
        needs: String,
    },
    /// The bank of reference pictures does not fit.
    #[error("{}: {problem}", path.display())]
    Reference {
        /// The bank.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A training log that can't be read.
    #[error("{}:{line}: not a line of a training log", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// Ratings that can't be used.
    #[error("{}:{line}: {problem}", path.display())]
    Ratings {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A thumbnail can't be encoded.
    #[error("cannot make a thumbnail of {}", path.display())]
    Thumbnail {
        /// The picture.
        path: PathBuf,
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// The scores can't be written as JSON.
    #[error("cannot write {} as JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The writer's reason.
        source: serde_json::Error,
    },
    /// The user asked to stop. Nothing was written.
    #[error("interrupted")]
    Interrupted,
}

// Boxed, because it is large and rare.
impl From<crate::judge::Error> for Error {
    fn from(error: crate::judge::Error) -> Self {
        Self::Judge(Box::new(error))
    }
}

/// What is read.
const READ: &str =
    "PNG, JPEG, WebP, BMP, GIF and TIFF files are read, in sub-folders too, whatever their names";

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            // A transparent error hides the one it holds from whoever walks the causes.
            Self::Bundle(inner) => inner.hint(),
            Self::Runtime(inner) => inner.hint(),
            Self::Judge(inner) => inner.hint(),
            Self::Chain(crate::judge::chain::Error::Runtime(inner)) => inner.hint(),
            Self::NoFolder { dir } if fsio::is_url(dir) => Some(FETCH),
            Self::Empty {
                without_files: true,
                ..
            } => Some("generate it without --format none"),
            Self::Empty { .. } => Some(READ),
            Self::NothingLeft { left_out, .. } if left_out.pictures > 0 => Some(READ),
            Self::NothingLeft { .. } => Some("ask for metrics that these pictures' captions have"),
            Self::Parquet { .. } => {
                Some("write it as metadata.jsonl or metadata.csv beside the pictures")
            }
            Self::Unfinished { .. } => {
                Some("run the same pa-datagen command again; it goes on where it stopped")
            }
            Self::MetricNeeds { .. } => {
                Some("leave the metric out of --metrics, or give what it needs")
            }
            Self::NothingInCommon { .. } => {
                Some("captions, or the names of sub-folders, must be the same on both sides")
            }
            _ => None,
        }
    }
}

/// Result of scoring.
pub type Result<T> = std::result::Result<T, Error>;
