//! What every room stands on and that knows nothing of this project: files, tables, exact arithmetic,
//! cache folders, element types, values of options, the token that asks a run to stop.

pub(crate) mod cache;
mod dtype;
pub(crate) mod exact;
pub(crate) mod facts;
pub mod fsio;
pub mod hint;
pub mod json;
pub(crate) mod lock;
pub(crate) mod slow;
pub mod stop;
pub(crate) mod table;
pub(crate) mod text;
pub mod values;

pub use dtype::DType;
pub use stop::{Patience, Stop};
pub use values::Values;
