//! `report.html`: the scores for people, in one file that loads nothing from anywhere.
//!
//! Charts are HTML boxes in percent rather than drawings, so that their text keeps its size on a
//! phone; only the training curves are SVG. Every chart has its numbers in a table beside it.

mod axes;
mod card;
mod charts;
mod context;
mod headline;
mod method;
mod named;
mod people;
mod portraits;
mod quality;
mod tables;
mod things;
mod thumbnails;
mod training;
mod words;
mod write;

pub use card::Card;
pub use write::{PICTURE_BUDGET, Report};
