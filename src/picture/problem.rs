//! Why a file is no picture.

use std::io;
use std::path::Path;

use image::ImageError;
use image::error::UnsupportedErrorKind;

use super::format::{Format, told_by_name};

/// Why a file, or its bytes, are no picture.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    /// There is no such file.
    #[error("missing file")]
    Missing,
    /// The file can't be read.
    #[error("file that can't be read")]
    File(#[source] Reason),
    /// There are no bytes.
    #[error("empty file")]
    Empty,
    /// The bytes begin as none of a picture do.
    #[error("no picture")]
    Unknown,
    /// A format of pictures that isn't read.
    #[error("unsupported format {0}")]
    Format(&'static str),
    /// A format that is read, in a way that isn't.
    #[error("unsupported kind of {format}")]
    Kind {
        /// The format's name.
        format: &'static str,
        /// What is not supported.
        source: Reason,
    },
    /// The end is missing.
    #[error("truncated {format}")]
    Truncated {
        /// The format's name.
        format: &'static str,
        /// The decoder's reason.
        source: Reason,
    },
    /// Too large when unpacked.
    #[error("too large {format}")]
    TooLarge {
        /// The format's name.
        format: &'static str,
        /// The decoder's reason.
        source: Reason,
    },
    /// Anything else that is wrong with the bytes.
    #[error("damaged {format}")]
    Damaged {
        /// The format's name.
        format: &'static str,
        /// The decoder's reason.
        source: Reason,
    },
}

/// What a decoder says.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub String);

impl Problem {
    /// The problem with a file that can't be opened or read.
    pub fn of_file(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::File(Reason(error.to_string())),
        }
    }

    /// The same, of a file of this name, which may name a format that the bytes don't.
    #[must_use]
    pub fn of_name(self, name: &Path) -> Self {
        match (&self, told_by_name(name)) {
            (Self::Unknown, Some(format)) => Self::Format(format),
            _ => self,
        }
    }

    /// What the system or a decoder says of it, where there is more to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Missing | Self::Empty | Self::Unknown | Self::Format(_) => None,
            Self::File(source)
            | Self::Kind { source, .. }
            | Self::Truncated { source, .. }
            | Self::TooLarge { source, .. }
            | Self::Damaged { source, .. } => Some(&source.0),
        }
    }

    /// The problem that a decoder of the `image` crate has.
    pub(super) fn of_decoder(format: Format, error: &ImageError) -> Self {
        let (format, source) = (format.name(), Reason(error.to_string()));
        match error {
            ImageError::Unsupported(unsupported) => match unsupported.kind() {
                UnsupportedErrorKind::Format(_) => Self::Damaged { format, source },
                _ => Self::Kind { format, source },
            },
            ImageError::Limits(_) => Self::TooLarge { format, source },
            error if ends_early(error) => Self::Truncated { format, source },
            _ => Self::Damaged { format, source },
        }
    }
}

/// Whether an error is, or comes of, the end of the bytes.
fn ends_early(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<ImageError>() {
            Some(ImageError::IoError(io)) => Some(io),
            _ => error.downcast_ref::<io::Error>(),
        };
        if io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}
