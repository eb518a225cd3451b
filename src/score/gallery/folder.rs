//! What a folder of pictures is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a picture is evidence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Its caption names no value of any axis: the population the model draws by itself.
    Neutral,
    /// Its caption names values: whether the model obeys.
    Specific,
    /// It is not about people: whether the model still draws the same. A caption is taken for
    /// this where nothing says what it is and most of its pictures show nobody.
    Other,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 3] = [Kind::Neutral, Kind::Specific, Kind::Other];

    /// Its name in `scores.json`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Neutral => "neutral",
            Kind::Specific => "specific",
            Kind::Other => "other",
        }
    }
}

/// How a folder says what its pictures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A data set of `pa-datagen`.
    Dataset,
    /// An imagefolder with a table.
    Imagefolder,
    /// Pictures with a caption in a file beside each.
    Sidecars,
    /// Folders named by prompts.
    Folders,
}

/// One picture, before it is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its file, relative to the folder, with `/`.
    pub name: String,
    /// Its caption.
    pub prompt: String,
    /// What it is evidence of; nothing where the folder doesn't say.
    pub kind: Option<Kind>,
    /// The values its caption names.
    pub axes: BTreeMap<String, String>,
    /// The caption that names no value, for the same subject.
    pub neutral: Option<String>,
    /// What pairs it with a picture of the other side: seed and number, or the file's name.
    pub key: String,
}

/// A folder of pictures.
#[derive(Debug, Clone)]
pub struct Gallery {
    /// The folder, as it was given.
    pub dir: PathBuf,
    /// How it says what its pictures are.
    pub layout: Layout,
    /// Its pictures, in the order of the table or of their names.
    pub pictures: Vec<Picture>,
    /// Rows of pictures that were not kept as files.
    pub without_files: usize,
    /// Pictures in the folder that no row of its table names.
    pub unlisted: Vec<String>,
    /// What whoever reads the numbers should know of it.
    pub notes: Vec<String>,
    /// The LoRA and other options it was made with, where it says.
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}
