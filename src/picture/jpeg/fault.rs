//! What is wrong with a file.

/// Why a file can't be decoded.
#[derive(Debug)]
pub(in crate::picture) struct Fault {
    /// Of which kind it is.
    pub(in crate::picture) kind: Kind,
    /// What is wrong, in words.
    pub(in crate::picture) text: String,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::picture) enum Kind {
    /// Bytes that can't be.
    Damaged,
    /// The end of the file is missing.
    Cut,
    /// A kind of JPEG that isn't read.
    Unsupported,
    /// More pixels than are unpacked.
    TooLarge,
}

impl Fault {
    pub(super) fn cut(text: &str) -> Self {
        Self::of(Kind::Cut, text)
    }

    pub(super) fn unsupported(text: impl Into<String>) -> Self {
        Self::of(Kind::Unsupported, text)
    }

    pub(super) fn of(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

/// Most faults are damage.
impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self::of(Kind::Damaged, text)
    }
}
