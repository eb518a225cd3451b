//! Drawing pictures: noise schedules, samplers, guidance, text encoding, the pipeline.

pub mod decode;
pub mod fair_pca;
mod finite;
pub mod guidance;
pub mod lost;
pub mod painter;
pub mod pipeline;
pub mod samplers;
pub mod schedule;
pub(crate) mod share;
pub mod text;
pub mod tokenizer;

pub use finite::NonFinite;
