//! What every room stands on and that knows nothing of this project: files, exact arithmetic,
//! cache folders, element types, the token that asks a run to stop.

pub(crate) mod cache;
mod dtype;
pub(crate) mod exact;
pub mod fsio;
pub mod hint;
pub mod json;
pub(crate) mod lock;
pub mod stop;

pub use dtype::DType;
pub use stop::Stop;
