//! Published judges with random weights in the true formats and names, held to their authors' code from the
//! bytes of pictures to the scores (`scripts/oracle/quality.py`).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of tests fails and reports as a test does"
)]

#[path = "../process/mod.rs"]
mod process;

mod clip;
mod refused;
mod seeded;
