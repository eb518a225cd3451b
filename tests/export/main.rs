//! `pa-export`, run as users run it, on a tiny SDXL in a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changed;
mod checkpoint;
mod copies;
mod folders;
mod half;
mod hub;
mod hub_server;
mod kinds;
mod merged;
mod outputs;
mod planned;
#[path = "../process/mod.rs"]
mod process;
mod refused;
mod single;
mod written;
