//! Preference pairs: sets of pictures against each other, cut into pairs of pictures.
//!
//! One *draw* takes a subject ("doctor"), a set of pictures from its identity-specific captions
//! and a set from its neutral caption. The specific set wins unless the neutral one is better on
//! every axis (more diverse, or nearer to a target that isn't uniform: see `rule`), then they swap.
//! Picture k of the winners against picture k of the losers is a pair; its label is the neutral
//! caption, which is what the model is to learn more identities for.
//!
//! Source: PopAlign section 3 and `3_generate_preferences.py` of the official code (5 + 5 pictures
//! with replacement, swap if not (more or as many races, or more or as many genders)). What is
//! added: specific pictures are drawn so that what they show has the target shares of the axes
//! (uniform unless the axes file says otherwise), whatever the filter dropped and captions don't name; a target that isn't uniform decides who wins; and every draw is addressed, so that a
//! longer list starts with the shorter one.

mod draw;
mod file;
mod groups;
mod pair;
mod rake;
mod rule;

pub use draw::{check_verdicts, draw};
pub use file::read;
pub use pair::{Error, Pair, Pairs, PictureId, SET_SIZE, Sets};
#[cfg(test)]
pub(crate) use rule::shown;

#[cfg(test)]
mod tests;
