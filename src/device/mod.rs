//! Kernels and their CPU twins.
//!
//! Every operation of a training step outside the network exists twice: as CUDA source in
//! `kernels/*.cu` and as a Rust twin in [`cpu`], [`weights`], [`blockwise`] or [`prodigy`]. Both use the same order of operations (fixed
//! reduction trees, no fused multiply-add), so that they give the same bits. [`Device`] is what
//! the training loop sees of either.

mod adamw;
pub mod blockwise;
pub mod cpu;
pub mod cuda;
mod error;
mod half;
mod host;
mod layout;
mod link;
mod loss;
mod nccl;
mod noise;
mod operations;
mod optimize;
pub mod prodigy;
pub mod ptx;
pub mod sources;
mod state;
pub mod weights;

pub use adamw::{AdamW, AdamWStep, Clip};
pub use error::Error;
pub use half::Half;
pub use host::Cpu;
pub use layout::Layout;
pub use link::{Link, MEETING, Meeting};
pub use loss::{Loss, Summary, Term, TermScalars, Weights};
pub use noise::{Diffuse, Diffused};
pub use operations::Device;
pub use optimize::update;
pub use prodigy::{Estimate, Prodigy};
pub use state::{Codes, HostState, Moments, State};
