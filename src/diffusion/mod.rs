//! Drawing pictures: noise schedules, samplers, guidance, text encoding, the pipeline.

pub mod sampler;
pub mod schedule;
pub mod tokenize;
