//! `pa-finetune`, run as users run it, on tiny random models and made-up data sets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accuracy;
mod dropout;
mod graphs;
mod half;
mod left_out;
mod missing;
mod mixed;
mod online;
#[path = "../process/mod.rs"]
mod process;
mod published;
mod ranks;
mod refused;
mod resume;
mod rounds;
mod runaway;
mod threads;
mod torch;
mod trace;
mod unfiltered;
mod validate;
mod weighted;
mod world;
mod written;
