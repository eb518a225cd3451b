//! Who is in a picture, and what it shows: chains of classifiers, what their labels mean on the axes
//! of identity, and CLIP.

pub mod chain;
pub mod clip;
pub mod scales;
