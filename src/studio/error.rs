//! What can go wrong in drawing while training goes on.

use crate::base::hint::{Foreign, Hint};
use crate::{align, bundle, data, datagen, diffusion, judge, prompts, runtime, score};

/// Why pictures can't be drawn or looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What fine-tuning says itself: an option, the data.
    #[error(transparent)]
    Align(#[from] align::Error),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] data::dataset::Error),
    /// The prompts to validate on.
    #[error(transparent)]
    Prompts(#[from] prompts::Error),
    /// The noise schedule.
    #[error(transparent)]
    Schedule(#[from] diffusion::schedule::Error),
    /// The text encoders.
    #[error(transparent)]
    Text(#[from] diffusion::text::Error),
    /// Planning pictures.
    #[error(transparent)]
    Plan(Box<datagen::Error>),
    /// Drawing them.
    #[error(transparent)]
    Paint(Box<diffusion::painter::Error>),
    /// The classifier chain that looks at them.
    #[error(transparent)]
    Chain(#[from] judge::chain::Error),
    /// What its answers mean.
    #[error(transparent)]
    Judge(#[from] judge::Error),
    /// Scoring them.
    #[error(transparent)]
    Score(Box<score::Error>),
}

// Boxed, because they are large and rare.
impl From<datagen::Error> for Error {
    fn from(error: datagen::Error) -> Self {
        Self::Plan(Box::new(error))
    }
}

impl From<diffusion::painter::Error> for Error {
    fn from(error: diffusion::painter::Error) -> Self {
        Self::Paint(Box::new(error))
    }
}

impl From<score::Error> for Error {
    fn from(error: score::Error) -> Self {
        Self::Score(Box::new(error))
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Align(error) => error.hint(),
            Error::Bundle(error) => error.hint(),
            Error::Runtime(error) => error.hint(),
            Error::Text(diffusion::text::Error::Bundle(error)) => error.hint(),
            Error::Judge(error) => error.hint(),
            Error::Plan(error) => error.hint(),
            Error::Paint(error) => error.hint(),
            Error::Score(error) => error.hint(),
            _ => None,
        }
    }
}

impl From<Error> for align::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Align(error) => error,
            other => align::Error::Validation(Foreign::new(other)),
        }
    }
}

/// Result of drawing and looking.
pub type Result<T> = std::result::Result<T, Error>;
