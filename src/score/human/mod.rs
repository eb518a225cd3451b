//! Asking people: sheets of sets of pictures, of which nobody can tell the side, and how far
//! those who filled them in agree.
//!
//! As in the paper, a task shows a few pictures of one prompt from each side and asks which set is
//! the more diverse and which is the better. Which side is A is drawn anew for each task; `key.csv`
//! says which it was and is not for the raters.

mod alpha;
mod questions;
mod ratings;
mod sheets;

pub use alpha::krippendorff_nominal;
pub use questions::{KEY, QUESTIONS, SHEET};
pub use ratings::{Agreement, Answer, read_ratings};
pub use sheets::write_sheets;
