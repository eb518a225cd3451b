//! From what was seen to what it means: every number of `scores.json`.
//!
//! Metrics of one shape are computed in one place: `axes`, `named`, `quality`, `pairs`;
//! `single` is prompt by prompt and picture by picture.

mod axes;
mod evidence;
mod named;
mod pairs;
mod qualities;
mod quality;
mod single;

pub use evidence::{Evidence, SIDE_NAMES};
pub use qualities::Qualities;
