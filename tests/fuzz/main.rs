//! Checkpoints and adapters come from strangers. Whatever bytes they are, reading them ends in a
//! value or a typed error: no panic, no endless loop, and no more memory than their size warrants.
//!
//! `attacks` has the known tricks one by one. `readers` mutates valid files at random: a few
//! seconds of the same cases in every test run, and with `POPALIGN_FUZZ_SECONDS=600` new ones for
//! that long per reader.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod forge;
mod memory;
mod mutate;
mod readers;
