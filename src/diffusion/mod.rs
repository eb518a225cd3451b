//! Drawing pictures: noise schedules, samplers, guidance, text encoding, the pipeline.

pub mod decode;
pub mod guidance;
pub mod pipeline;
pub mod sampler;
pub mod schedule;
pub mod text;
pub mod tokenizer;
