//! Drawing pictures: noise schedules, samplers, guidance, text encoding, the pipeline.

pub mod decode;
mod finite;
pub mod guidance;
pub(crate) mod painter;
pub mod pipeline;
pub mod samplers;
pub mod schedule;
pub mod text;
pub mod tokenizer;

pub use finite::NonFinite;
