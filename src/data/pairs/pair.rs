//! Pairs, and why there are none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::fsio;
use crate::data::dataset::PictureRow;
use crate::data::pool::Pool;
use crate::prompts::caption_id;

/// Pictures of each side of a draw, in the official code.
pub const SET_SIZE: usize = 5;

/// Why there are no pairs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No subject has pictures on both sides.
    #[error("{} gives no pairs: {}", dir.display(), reasons.join("; "))]
    NoPairs {
        /// The data set.
        dir: PathBuf,
        /// Why, subject by subject (the first few).
        reasons: Vec<String>,
    },
    /// Neutral pictures that no classifier has judged.
    #[error(
        "the data set {} is unfiltered: {unjudged} of {neutral} neutral pictures have no verdict{}, \
         and verdicts decide which set of a draw wins",
        dir.display(),
        axes.as_ref().map(|axes| format!(" on {}", axes.join(", "))).unwrap_or_default()
    )]
    Unjudged {
        /// The data set.
        dir: PathBuf,
        /// Its neutral pictures without a verdict.
        unjudged: usize,
        /// All that can lose a draw.
        neutral: usize,
        /// The axes of the axes file, if there is one.
        axes: Option<Vec<String>>,
    },
    /// The file of pairs.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// A line of the file of pairs that is not a pair.
    #[error("{}:{line}: not a pair", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A pair that names what the data set does not have.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file without pairs.
    #[error("{} holds no pairs", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// One picture of a pair, by what names it in its data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureId {
    /// Id of the caption it was drawn for.
    pub prompt_id: u32,
    /// Its number among that caption's pictures.
    pub image_id: u32,
    /// Its data set's place among those of the run.
    #[serde(default, skip_serializing_if = "is_first")]
    pub data: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_first(data: &u32) -> bool {
    *data == 0
}

impl PictureId {
    pub(super) fn of(dataset: &Pool, row: usize) -> Self {
        let PictureRow {
            prompt_id,
            image_id,
            ..
        } = *dataset.row(row);
        Self {
            prompt_id,
            image_id,
            data: dataset.place(row).0 as u32,
        }
    }
}

/// How sets are drawn and listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// Pictures of each side of a draw.
    pub size: usize,
    /// Whether the pairs of a draw stay together in the list: a loss takes them as one.
    pub together: bool,
}

/// One line of `pairs.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The neutral caption both pictures are trained under.
    pub caption: String,
    /// Number of the draw it came from.
    #[serde(default)]
    pub draw: u32,
    /// Whether the neutral set won the draw.
    #[serde(default)]
    pub swapped: bool,
    /// The preferred picture.
    pub winner: PictureId,
    /// The other one.
    pub loser: PictureId,
    /// What its term of the loss is multiplied with.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: f32,
}

fn one() -> f32 {
    1.0
}

fn is_one(weight: &f32) -> bool {
    *weight == 1.0
}

/// Pairs with the rows of their pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The pairs in the order training visits them.
    pub list: Vec<Pair>,
    /// Row numbers of each pair's winner and loser.
    pub rows: Vec<[usize; 2]>,
    /// Subjects that have no pictures on one side, and why they were left out.
    pub left_out: Vec<String>,
    /// Which axes' targets the winners drawn can't follow, and why.
    pub off_target: Vec<String>,
}

impl Pairs {
    /// Those of a run that draws its own pictures.
    pub fn none() -> Self {
        Self {
            list: Vec::new(),
            rows: Vec::new(),
            left_out: Vec::new(),
            off_target: Vec::new(),
        }
    }

    /// The pairs as JSON lines.
    pub fn to_jsonl(&self) -> String {
        let line = |pair: &Pair| {
            let text = serde_json::to_string(pair).unwrap_or_default();
            text + "\n"
        };
        self.list.iter().map(line).collect()
    }

    /// Id of the caption of pair `index`, for its embeddings.
    pub fn caption_id(&self, index: usize) -> u32 {
        caption_id(&self.list[index].caption)
    }
}
