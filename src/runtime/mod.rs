//! ONNX Runtime: its library, execution providers, sessions, and what goes in and out.
//!
//! The library is opened at run time, so that one build serves machines with and without CUDA
//! ([`Runtime::load`] says where it looks). A [`Session`] is one graph on one execution provider;
//! [`Feed`] and [`Outputs`] carry arrays without copying them where the types allow.

mod bound;
mod driver;
mod engine_cache;
mod ep;
mod error;
mod feed;
mod library;
mod memory;
mod options;
mod providers;
mod session;

pub use bound::Bound;
pub(crate) use driver::cuda_devices;
pub use ep::Ep;
pub use error::{Error, Result};
pub use feed::{Feed, Outputs};
pub use library::Runtime;
pub use memory::Memory;
pub use options::{ComputeStream, SessionOptions, TensorRt};
pub use ort::value::TensorElementType as ElementType;
pub use session::{InMemory, Session, TensorSpec, resolve};
