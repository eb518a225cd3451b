//! Weights as pointers into the files they came in.
//!
//! Exporting a network needs to know where each tensor lies, not what it holds: [`Weights`] reads
//! only the headers of one or more safetensors files, and [`Scope`] hands out [`Tensor`]s (file,
//! offset, length, dtype, shape) by dotted name, checking the shape the network expects. Nothing
//! is loaded until [`Tensor::read_f32`] is asked for.

mod convert;
mod error;
pub mod mapped;
mod open;
mod safetensors;
mod stored;
mod tensor;
mod torch;
mod weights;

pub use crate::base::DType;
pub(crate) use error::list;
pub use error::{Error, Result};
pub(crate) use open::{Chosen, choose, shards, weight_map};
pub use safetensors::{NewTensor, metadata, write_safetensors};
pub(crate) use safetensors::{Planned, data_sha256, order, write_planned};
pub(crate) use stored::Stored;
pub use tensor::{Tensor, read_f32};
pub(crate) use torch::is_torch;
pub use weights::{Scope, Weights};
