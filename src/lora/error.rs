//! Why a LoRA cannot be read, used or written.

use std::path::{Path, PathBuf};

use crate::tensors::list;

/// Why an adapter cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error(transparent)]
    Weights(#[from] crate::tensors::Error),
    /// A JSON text about the adapter.
    #[error("{}: {what} is not what PEFT writes", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Which text.
        what: &'static str,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A kind of adapter that is not a plain LoRA.
    #[error("{}: `{key}` belongs to {kind}, which is not supported; plain LoRA of linear layers is", file.display())]
    Kind {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What it belongs to.
        kind: &'static str,
    },
    /// A setting of PEFT's configuration that can't be followed.
    #[error("{}: `{key}` {problem}", file.display())]
    Setting {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// A text encoder's LoRA where only the UNet's can be fed.
    #[error(
        "{}: `{key}` belongs to a text encoder's LoRA, which can be merged but not fed while drawing",
        file.display()
    )]
    TextEncoder {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// A key of no known format.
    #[error(
        "{}: `{key}` is not a LoRA key of a UNet or text encoder as PEFT, diffusers, kohya or ComfyUI name them",
        file.display()
    )]
    Key {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// Half a pair of factors.
    #[error("{}: module `{module}` has no {missing} factor", file.display())]
    Half {
        /// The file.
        file: PathBuf,
        /// The module's path.
        module: String,
        /// "A (down)" or "B (up)".
        missing: &'static str,
    },
    /// Factors whose shapes do not fit.
    #[error("{}: module `{module}`: {problem}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The module's path.
        module: String,
        /// What does not fit.
        problem: String,
    },
    /// Two keys, of two formats, for the same factor.
    #[error("{}: `{key}` gives module `{module}` a factor that it has already", file.display())]
    Twice {
        /// The file.
        file: PathBuf,
        /// The second key.
        key: String,
        /// The module's path.
        module: String,
    },
    /// A file without any factors.
    #[error("{} holds no LoRA factors", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The model has no such LoRA input.
    #[error(
        "the adapter has factors for `{module}`, which this model was exported without; it takes LoRA on {targets}"
    )]
    NoModule {
        /// The module's path.
        module: String,
        /// The kinds of modules the model takes LoRA on.
        targets: String,
    },
    /// The adapter's layer has another size than the model's.
    #[error("the adapter's `{module}` is {found:?} (in, out), the model's is {expected:?}")]
    Size {
        /// The module's path.
        module: String,
        /// Inputs and outputs in the adapter.
        found: [usize; 2],
        /// Inputs and outputs in the model.
        expected: [usize; 2],
    },
    /// The model's weights have no such module.
    #[error(
        "the adapter has factors for `{module}`, which {} has no weight for",
        list(files)
    )]
    NoWeight {
        /// The module's path.
        module: String,
        /// The weight files searched.
        files: Vec<PathBuf>,
    },
    /// A weight that an adapter takes out of its type's range.
    #[error("with the adapter, `{key}` has values that are not finite in {dtype}")]
    NotFinite {
        /// The weight's name.
        key: String,
        /// The type it is stored in.
        dtype: crate::tensors::DType,
    },
    /// The adapter's rank is too high for the graphs.
    #[error(
        "the adapter's rank is {found} (`{module}`), the model was exported for ranks up to {limit}"
    )]
    Rank {
        /// The module's path.
        module: String,
        /// The adapter's rank.
        found: usize,
        /// The model's.
        limit: usize,
    },
    /// The adapter's rank is too high for a run that goes on from it.
    #[error(
        "the adapter's rank is {found} (`{module}`), a run that goes on from it needs at least that as \
         --lora, which is {limit}"
    )]
    RunRank {
        /// The module's path.
        module: String,
        /// The adapter's rank.
        found: usize,
        /// The run's.
        limit: usize,
    },
}

/// Result of working with an adapter.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Rank { .. } => Some("export with a higher pa-export --lora-rank"),
            Self::NoModule { .. } => Some(
                "export with those modules in pa-export --lora-targets; if the model has none of \
                 that name, the LoRA was made for another",
            ),
            Self::TextEncoder { .. } => {
                Some("pa-export --lora FILE --merge adds it to the model's weights")
            }
            _ => None,
        }
    }

    /// Factors whose shapes don't fit each other.
    pub(super) fn shape(file: &Path, module: &str, problem: String) -> Self {
        Self::Shape {
            file: file.to_path_buf(),
            module: module.to_owned(),
            problem,
        }
    }
}
