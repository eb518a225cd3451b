//! The one way to ask a run to stop.
//!
//! Most of what a command does may be left at any moment, because every file on the disk is whole at
//! any moment: loading, hashing, downloading, exporting, scoring. Where leaving would lose work, a
//! run says so by a [`Hold`]; then it is asked, and has to look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A token that its holders share: whoever asks, all of them see it. Long work looks at it at every
/// point where it can stop with its files whole.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    /// Holds that live, by their kind.
    briefly: AtomicUsize,
    entirely: AtomicUsize,
}

/// How long work under way may go on once the run was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: nothing is lost.
    No,
    /// For a moment: it would have to be done again, but takes a time that nobody knows.
    Brief,
    /// To its next safe point: it can't be done again from the files.
    Entire,
}

/// Work under way that a run would lose by being left; it ends where this is dropped.
#[derive(Debug)]
pub struct Hold(Arc<State>, Patience);

impl Stop {
    /// A token that nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop; says whether somebody had asked before.
    pub fn ask(&self) -> bool {
        self.0.asked.swap(true, Ordering::SeqCst)
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Begins work that is worth some patience.
    pub fn hold(&self, patience: Patience) -> Hold {
        let hold = Hold(Arc::clone(&self.0), patience);
        if let Some(count) = hold.count() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        hold
    }

    /// The patience that the work under way is worth.
    pub fn patience(&self) -> Patience {
        let any = |count: &AtomicUsize| count.load(Ordering::SeqCst) > 0;
        if any(&self.0.entirely) {
            Patience::Entire
        } else if any(&self.0.briefly) {
            Patience::Brief
        } else {
            Patience::No
        }
    }
}

impl Hold {
    fn count(&self) -> Option<&AtomicUsize> {
        match self.1 {
            Patience::No => None,
            Patience::Brief => Some(&self.0.briefly),
            Patience::Entire => Some(&self.0.entirely),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(count) = self.count() {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_precious_work_under_way_counts() {
        let stop = Stop::new();
        assert_eq!(stop.patience(), Patience::No);
        let [first, second] = [(); 2].map(|()| stop.hold(Patience::Brief));
        let step = stop.clone().hold(Patience::Entire);
        assert_eq!(stop.patience(), Patience::Entire);
        drop((step, first));
        assert_eq!(stop.patience(), Patience::Brief);
        drop(second);
        assert_eq!(stop.patience(), Patience::No);
        assert!(!stop.ask() && stop.ask() && stop.asked());
    }
}
