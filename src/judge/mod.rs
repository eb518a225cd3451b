//! Who is in a picture, and what it shows: chains of classifiers, what their answers mean on the axes
//! of identity, and CLIP.

pub mod aesthetic;
pub mod chain;
pub mod clip;
mod error;
mod network;
pub mod published;
pub mod reading;
pub mod scales;

pub use error::{Both, Error, Result};
