//! Kernels and their CPU twins.
//!
//! Every operation of a training step outside the network exists twice: as CUDA source in
//! `kernels/*.cu` and as a Rust twin here. Both use the same order of operations (fixed reduction
//! trees, no fused multiply-add), so that they give the same bits.

pub mod philox;
