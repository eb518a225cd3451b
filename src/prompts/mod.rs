//! What is asked for: lists of prompts, and the axes of identity that captions name.

pub mod axes;
mod columns;
mod error;
mod formats;
mod list;
pub mod shares;
mod template;

pub use axes::Axes;
pub(crate) use columns::{ANY_COLUMN, caption};
pub use error::Error;
pub use list::{Prompts, caption_id, read};
pub use shares::are_shares;
