//! `pa-datagen`'s work: from a list of prompts to a data set of pictures, latents and embeddings.
//!
//! The pictures of a run stand in one list (`plan`): for each prompt its neutral caption's, then
//! those of each specific caption. The list is cut into units of [`UNIT`] pictures, the smallest
//! thing that is done or not done (`data::writer`). Workers take units from a queue; what a unit
//! holds depends on the configuration and its number alone:
//!
//! - noise is addressed by (seed, caption id, image id), never drawn from a state;
//! - captions are encoded and latents decoded one at a time;
//! - a batch never spans two units.
//!
//! What is left is the UNet's arithmetic. On the CPU, ONNX Runtime 1.32 (AVX-512, deterministic
//! compute) gave the same bits at every batch size from 1 to 32 rows and with 1, 2, 3, 4 and 7
//! threads, for the demo model's UNet and for single matrix products and convolutions of SDXL's
//! sizes; tests hold the demo model to it. So a data set made on a CPU has the same bytes for any
//! `--batch`, `--threads`, `--shard` and any number of kills. Between kinds of CPU (AVX2, AVX-512)
//! and versions of ONNX Runtime bits differ; the latter is recorded in the manifest, shards made
//! on different kinds of machines are the user's to avoid. On CUDA and TensorRT kernels are chosen
//! by shape, so the batch size is part of the configuration there, and a run goes on only with the
//! one it was begun with.
//!
//! With `--until` a caption's pictures begin a unit, and its units are made in order, until enough pictures
//! have passed the filter (`plan::Work`): how many are drawn follows from the verdicts alone.
//!
//! On the CPU a small model runs as several workers of one thread each: no operator of a tiny
//! network is worth splitting. A model whose copies would not fit is run by one worker with all
//! threads.

pub mod config;
mod cut;
mod error;
mod estimate;
mod event;
mod files;
mod filter;
mod finish;
mod geometry;
mod graphs;
mod identity;
mod metrics;
mod plan;
mod progress;
mod projected;
mod run;
pub(crate) mod setup;
mod shared;
pub mod steering;
mod times;
mod view;
mod worker;

pub use config::{Crop, Format, Rejected, Request, Shard, Sharing, Size, Until};
pub use error::{Cut, Error, Result};
pub use estimate::{Bytes, Estimate, estimate};
pub use event::{Event, Finish};
pub use graphs::write_graphs;
pub use metrics::MetricsFile;
pub use plan::{Picture, Plan};
pub use progress::Progress;
pub use run::run;
pub use steering::{GuidanceKind, Steering};
pub use times::Times;

/// Pictures of a unit.
pub const UNIT: usize = 16;
