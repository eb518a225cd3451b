//! The operations by group, as methods of [`Graph`](super::Graph): each infers the shape and dtype of
//! its result and refuses operands that don't fit.

mod elementwise;
mod linear;
mod normalize;
mod shaping;
