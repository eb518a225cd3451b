//! `pa-score`, on populations of the demo world's portraits whose every number is known.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod card;
mod compared;
mod folders;
mod left_out;
mod oracle;
mod people;
#[path = "../process/mod.rs"]
mod process;
mod refused;
mod report;
mod shares;
mod world;
