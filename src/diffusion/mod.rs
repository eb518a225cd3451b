//! Schedulers, samplers, guidance and the generation pipeline.
