//! Data sets.
//!
//! [`dataset`] is the folder that generation leaves behind and everything else reads, with
//! [`manifest`] saying how it was made; [`writer`] makes it, [`pool`] joins several, and [`pairs`]
//! draws preferences from them.

pub mod dataset;
pub mod manifest;
pub mod pairs;
pub mod pool;
pub mod writer;
