//! A typed ONNX graph builder.
//!
//! Networks are built, not traced: every method of [`Graph`] adds one operation, infers the shape
//! and dtype of its result and refuses operands that don't fit, naming the op, its place in the
//! network, what it expected and what it got. Weights are pointers into files ([`Data::External`]),
//! so building even the largest network reads none of them. [`gradients`] differentiates a built
//! graph, [`Graph::optimize`] removes what is dead, equal or constant, and [`Graph::to_onnx`]
//! writes the file; [`Graph::lower_for_cuda`] puts ONNX Runtime's fused operators in before, and
//! [`Graph::specialise`] fits a graph of fixed sizes to the one job that it is made for.
//!
//! Values are small handles into the graph that made them. Shapes may hold symbols (batch size,
//! height, width), see [`Dim`].

mod attributes;
mod builder;
mod check;
mod constants;
mod cuda;
mod dim;
mod error;
mod grad;
mod memory;
mod onnx;
mod op;
mod ops;
mod passes;
mod products;
mod recompute;
mod specialise;
mod write;

pub use crate::base::DType;
pub use builder::{Data, Graph, Value};
pub use check::{CheckError, check};
pub use cuda::Lack;
pub use dim::{Dim, Symbol};
pub use error::{Error, Result};
pub use grad::gradients;
pub use memory::Memory;
pub use onnx::{ExternalTensor, external_files, external_tensors};
pub use op::{Binary, Contrib, Conv, Op, Operators, Pool, Real, Reduction, Unary};
pub use recompute::{Recompute, Segment};
pub use specialise::Kind;
pub use write::Onnx;
