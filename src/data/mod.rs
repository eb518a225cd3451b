//! Data sets.
//!
//! [`dataset`] is the folder that generation leaves behind and everything else reads, with
//! [`manifest`] saying how it was made; [`writer`] makes it, and makes again what is damaged; [`pool`] joins several, and [`pairs`]
//! draws preferences from them; [`noise`] tells which pictures two sets share.

pub mod dataset;
pub mod manifest;
pub mod noise;
mod on_disk;
pub mod pairs;
pub mod pool;
pub mod writer;
