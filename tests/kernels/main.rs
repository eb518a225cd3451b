//! The CUDA sources, run on the CPU through the shim of `tests/shim`, against their Rust twins:
//! equal bits at awkward sizes and for any grid; the twins against what others compute; and the
//! sources' compilation for GPUs. Needs `g++`.
#![expect(unsafe_code, reason = "calls into the compiled shim")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that unwraps fails with the reason it should"
)]

mod batch;
mod compile;
#[path = "../shim/compile.rs"]
mod compile_shim;
mod oracle;
mod shim;
mod update;
