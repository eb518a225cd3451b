//! Graphs that are made for one job: how many nodes they have, of what, and that they compute what the
//! exported ones do.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of tests fails and reports as a test does"
)]

mod counts;
mod equal;
mod kernels;
mod loads;
#[path = "../nets_support/mod.rs"]
mod nets_support;
mod synthetic;
