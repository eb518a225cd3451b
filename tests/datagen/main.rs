//! `pa-datagen`, run as users run it, on tiny models and on the demo model.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod baselines;
mod disk;
mod events;
mod foreseen;
mod graphs;
mod kills;
mod long;
mod mended;
mod oracle;
#[path = "../process/mod.rs"]
mod process;
mod refused;
mod resume;
mod server;
mod stores;
mod tools;
mod until;
mod world;
