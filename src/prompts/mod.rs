//! What is asked for: lists of prompts, and the axes of identity that captions name.

pub mod axes;
mod list;
pub mod shares;

pub use axes::Axes;
pub(crate) use list::csv_reader;
pub use list::{COLUMN, Error, Prompts, caption_id, read};
pub use shares::are_shares;
