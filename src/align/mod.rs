//! Fine-tuning a LoRA on preference pairs.
//!
//! A step goes: pairs of the step (`source`), noise and time steps, the network's errors and
//! per-sample gradients ([`model`]), the loss' factor for each sample once all errors of the global
//! batch are known, the weighted sum of gradients, clipping and the optimizer ([`trainer`], on a
//! [`Device`](crate::device::Device)). Everything that depends on chance is addressed by the step,
//! so a checkpoint ([`checkpoint`]) holds numbers and a counter, no generator.

pub mod checkpoint;
pub mod config;
pub mod draws;
mod error;
pub mod factors;
mod graphs;
pub mod log;
pub mod losses;
mod made;
pub mod model;
pub mod online;
pub mod optimizer;
pub mod order;
mod output;
mod prepare;
pub mod publish;
pub mod ranks;
mod record;
mod request;
pub mod rules;
mod run;
pub mod schedule;
pub mod source;
pub mod tfevents;
pub mod timesteps;
pub mod trace;
mod train;
pub mod trainer;
pub mod validation;
pub mod watch;

pub use config::Config;
pub use error::{Error, Result};
pub use graphs::write_graphs;
pub use losses::LossKind;
pub use made::Making;
pub use request::{Environment, Event, Finish, PairSource, Request};
pub use run::run;
