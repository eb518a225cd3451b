//! What can go wrong in generating a data set.

use std::path::PathBuf;

/// Why a data set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// A network's configuration.
    #[error(transparent)]
    Network(#[from] crate::nets::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The prompt list.
    #[error(transparent)]
    Prompts(#[from] crate::prompts::Error),
    /// The axes file.
    #[error(transparent)]
    Axes(#[from] crate::prompts::axes::Error),
    /// The data set's folder.
    #[error(transparent)]
    Data(#[from] crate::data::dataset::Error),
    /// Where it is to be.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The noise schedule.
    #[error(transparent)]
    Schedule(#[from] crate::diffusion::schedule::Error),
    /// The text encoders.
    #[error(transparent)]
    Text(#[from] crate::diffusion::text::Error),
    /// Making a picture.
    #[error(transparent)]
    Paint(Box<crate::diffusion::painter::Error>),
    /// The VAE.
    #[error(transparent)]
    Decode(#[from] crate::diffusion::decode::Error),
    /// The LoRA file.
    #[error("cannot use --lora {}", path.display())]
    Lora {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::lora::Error,
    },
    /// The classifier chain of the sanity filter.
    #[error(transparent)]
    Chain(#[from] crate::judge::chain::Error),
    /// An axis that the chain does not measure as the axes file says.
    #[error("{}: {misfit}: the chain {}: {}", axes.display(), chain.display(), misfit.problem)]
    Axis {
        /// The axes file.
        axes: PathBuf,
        /// The chain's manifest.
        chain: PathBuf,
        /// What the file says that is not so.
        misfit: crate::judge::reading::Misfit,
    },
    /// A picture that can't be encoded.
    #[error("cannot encode a picture as {format}")]
    Encode {
        /// The format.
        format: &'static str,
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// An option whose value can't be.
    #[error("--{option} {value}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        problem: String,
    },
    /// A model that can't draw from text alone.
    #[error("bundle {}: {problem}", dir.display())]
    Model {
        /// The bundle.
        dir: PathBuf,
        /// Why not.
        problem: String,
    },
    /// No picture was asked for.
    #[error("there is nothing to draw: {reason}")]
    Nothing {
        /// Why.
        reason: &'static str,
    },
    /// Two captions with the same id.
    #[error(
        "the captions \"{first}\" and \"{second}\" have the same id {id:08x}; change one of them"
    )]
    Clash {
        /// A caption.
        first: String,
        /// Another one.
        second: String,
        /// Their id.
        id: u32,
    },
    /// A caption that loses a value it was to name.
    #[error(transparent)]
    Cut(Box<Cut>),
    /// A folder that holds something else.
    #[error("{} is neither empty nor a data set", path.display())]
    InTheWay {
        /// The folder.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A specific caption that loses a value it was to name.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: the caption {caption:?} names {axis} by {word:?}, which the text encoder doesn't see: of its \
     {tokens} tokens none is left for {lost:?}; shorten the prompt {prompt:?}, or have `specific` name \
     {{{axis}}} earlier or with less text before it",
    axes.display()
)]
pub struct Cut {
    /// The axes file.
    pub axes: PathBuf,
    /// The caption.
    pub caption: String,
    /// The axis.
    pub axis: String,
    /// How the caption says the axis' value.
    pub word: String,
    /// The entry of the prompt list.
    pub prompt: String,
    /// Tokens that a text encoder sees.
    pub tokens: usize,
    /// The caption's end that it doesn't see.
    pub lost: String,
}

// Boxed, because it is large and rare.
impl From<crate::diffusion::painter::Error> for Error {
    fn from(error: crate::diffusion::painter::Error) -> Self {
        Self::Paint(Box::new(error))
    }
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Bundle(error) => error.hint(),
            Error::Runtime(error) => error.hint(),
            Error::Text(crate::diffusion::text::Error::Bundle(error)) => error.hint(),
            Error::Decode(crate::diffusion::decode::Error::Bundle(error)) => error.hint(),
            Error::Store(error) | Error::Data(crate::data::dataset::Error::Store(error)) => {
                error.hint()
            }
            // Others come from the disk that is being written to.
            Error::Data(error @ crate::data::dataset::Error::Manifest(_)) => error.hint(),
            Error::Lora { source, .. } => source.hint(),
            Error::Paint(error) => error.hint(),
            Error::Text(crate::diffusion::text::Error::NonFinite { found, .. }) => {
                Some(found.hint())
            }
            Error::InTheWay { .. } => Some("choose another --out, or remove it yourself"),
            _ => None,
        }
    }
}

/// Result of generating.
pub type Result<T> = std::result::Result<T, Error>;
