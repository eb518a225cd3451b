//! What a store can refuse.

use crate::base::fsio;

/// Why files can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk's reason.
    #[error(transparent)]
    File(fsio::Error),
    /// An object store's reason.
    #[error("cannot {action} {url}")]
    Remote {
        /// What was tried: "write", "read", "open" …
        action: &'static str,
        /// The object, or what was opened.
        url: String,
        /// Why not.
        source: Box<object_store::Error>,
        /// What to do about it.
        hint: &'static str,
    },
    /// An object that changed on its way.
    #[error("{url} was received with other bytes than it says it has")]
    Altered {
        /// The object.
        url: String,
    },
    /// A variable of the environment.
    #[error("{name}={value}: {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        problem: String,
    },
}

impl From<fsio::Error> for Error {
    /// A store's refusal that went through a reader of `std::io` comes out again.
    fn from(error: fsio::Error) -> Self {
        let fsio::Error {
            action,
            path,
            source,
        } = error;
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::File(fsio::Error {
                action,
                path,
                source,
            }),
        }
    }
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Remote { hint, .. } => Some(hint),
            Error::Altered { .. } => Some("try again; if it stays so, pa-datagen check says more"),
            Error::File(_) | Error::Variable { .. } => None,
        }
    }
}

/// Result of reading or writing files.
pub type Result<T> = std::result::Result<T, Error>;
