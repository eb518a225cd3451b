//! What can go wrong between a hub id and its files.

/// Why a repository's file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says where the cache is.
    #[error("there is no home folder to keep the hub's cache in")]
    NoHome,
    /// The hub doesn't let this user see the repository.
    #[error("the hub refuses {what} of {id} (HTTP {status})")]
    Denied {
        /// The repository.
        id: String,
        /// The file, or "the list of files".
        what: String,
        /// 401 or 403.
        status: u16,
    },
    /// The repository, its revision or the file doesn't exist.
    #[error("the hub has no {what} of {id} (HTTP 404)")]
    NotFound {
        /// The repository.
        id: String,
        /// The file, or "the list of files".
        what: String,
    },
    /// HF_HUB_OFFLINE is set, and the cache lacks something.
    #[error("HF_HUB_OFFLINE is set, and the cache has no {what} of {id}")]
    NotCached {
        /// The repository.
        id: String,
        /// What is lacking.
        what: String,
    },
    /// The hub answers, but not as a hub does.
    #[error("the hub's answer for {what} of {id} {problem}")]
    Answer {
        /// The repository.
        id: String,
        /// The file, or "the list of files".
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The hub can't be reached, or the connection breaks again and again.
    #[error("cannot fetch {what} of {id}: {problem}")]
    Connection {
        /// The repository.
        id: String,
        /// The file, or "the list of files".
        what: String,
        /// What happened.
        problem: String,
    },
    /// All bytes came, but not those that the hub promised.
    #[error("{what} of {id} was fetched with sha256 {found}, but the hub says {expected}")]
    Corrupt {
        /// The repository.
        id: String,
        /// The file.
        what: String,
        /// The hash that was promised.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// The repository's files are no model that can be exported.
    #[error("{id} has {problem}")]
    Unfit {
        /// The repository.
        id: String,
        /// What is lacking.
        problem: String,
    },
    /// The caller asked to stop; what was fetched is kept and continued.
    #[error("interrupted")]
    Interrupted,
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NoHome => Some("set HF_HOME"),
            Error::Denied { .. } => Some(
                "the repository is private or gated, or its name is misspelt: accept its terms \
                 on its page, and set HF_TOKEN to a token that may read it",
            ),
            Error::NotFound { .. } => Some(
                "check the spelling and the revision; a folder or file of your own would have \
                 been taken first, had it been there",
            ),
            Error::NotCached { .. } => Some("unset HF_HUB_OFFLINE to fetch it"),
            Error::Connection { .. } => {
                Some("run the command again; what has been fetched is kept and continued")
            }
            Error::Corrupt { .. } => Some("run the command again; it fetches the file anew"),
            _ => None,
        }
    }
}

/// Result of fetching.
pub type Result<T> = std::result::Result<T, Error>;
