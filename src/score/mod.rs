//! Measuring a population of pictures: who is in them, how far that is from the target, and
//! whether the pictures got worse.
//!
//! [`chain`] turns pictures into attributes, whatever ONNX models do it; [`pictures`]
//! reads them from files and brings them to size.

pub mod chain;
pub mod pictures;
