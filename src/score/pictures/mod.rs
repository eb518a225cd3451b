//! Pictures: bringing them to size.

mod resample;

pub use resample::{Filter, resample};
