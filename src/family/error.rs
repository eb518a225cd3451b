//! Why a single file is no checkpoint of a family that can be built.

use std::path::PathBuf;

/// Why a checkpoint can't be opened or taken from.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its tensors.
    #[error(transparent)]
    Tensors(#[from] crate::tensors::Error),
    /// A file that is no checkpoint in the original code's names.
    #[error(
        "{} is not a single-file checkpoint: none of its {tensors} tensors is named \
         `model.diffusion_model.…`", file.display()
    )]
    NotCheckpoint {
        /// The file.
        file: PathBuf,
        /// How many tensors it has.
        tensors: usize,
    },
    /// A checkpoint of a family that can't be built.
    #[error(
        "{} is a checkpoint of {family} (it has `{key}`), which is not supported; SDXL base and \
         Stable Diffusion 1.x are", file.display()
    )]
    Family {
        /// The file.
        file: PathBuf,
        /// A name that tells.
        key: String,
        /// What it is.
        family: &'static str,
    },
    /// A checkpoint with a tensor that may change what its networks mean.
    #[error(
        "{} has `{key}`, which no checkpoint of SDXL base or Stable Diffusion 1.x has: it may be of \
         another kind (EDM, flow matching, motion, scaled weights), which is not supported",
        file.display()
    )]
    Kind {
        /// The file.
        file: PathBuf,
        /// The tensor.
        key: String,
    },
    /// A network that a checkpoint does not hold.
    #[error("{} holds no {network}", file.display())]
    NoNetwork {
        /// The file.
        file: PathBuf,
        /// The network, by diffusers' folder.
        network: String,
    },
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Tensors(error) => error.hint(),
            Error::NotCheckpoint { .. } => {
                Some("to export one network in diffusers' names, give its folder with config.json")
            }
            Error::Family { .. } | Error::Kind { .. } | Error::NoNetwork { .. } => None,
        }
    }
}

/// Result of reading a checkpoint.
pub type Result<T> = std::result::Result<T, Error>;
