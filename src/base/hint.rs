//! Errors that bring advice.

use std::error::Error;
use std::fmt;

/// An error that may say what to do about it.
pub trait Hint: Error + Send + Sync + 'static {
    /// Advice for the person at the keyboard, where there is any.
    fn hint(&self) -> Option<&'static str>;
}

/// The error of something handed in, whose type the room that it was handed to doesn't know.
#[derive(Debug)]
pub struct Foreign(Box<dyn Hint>);

impl Foreign {
    /// Wraps an error; message, causes and advice stay its own.
    pub fn new(error: impl Hint) -> Self {
        Self(Box::new(error))
    }

    /// The error's advice.
    pub fn hint(&self) -> Option<&'static str> {
        self.0.hint()
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Foreign {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
