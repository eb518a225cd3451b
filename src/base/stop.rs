//! The one way to ask a run to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A token that its holders share: whoever asks, all of them see it. Long work looks at it at every
/// point where it can stop with its files whole.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A token that nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop; says whether somebody had asked before.
    pub fn ask(&self) -> bool {
        self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
