//! What every room stands on and that knows nothing of this project: files, tables, exact arithmetic,
//! eigenvalues, cache folders, element types, days, values of options, what was left out, tar archives,
//! what launched the process, the token that asks a run
//! to stop.

pub(crate) mod cache;
mod dtype;
pub(crate) mod exact;
pub(crate) mod facts;
pub mod fsio;
pub mod hint;
pub mod json;
pub mod launcher;
pub mod left_out;
pub mod linalg;
pub(crate) mod lock;
pub(crate) mod slow;
pub mod stop;
pub(crate) mod table;
pub(crate) mod tar;
pub(crate) mod text;
pub(crate) mod time;
pub mod values;

pub use dtype::DType;
pub use left_out::LeftOut;
pub use stop::{Patience, Stop};
pub use values::Values;
