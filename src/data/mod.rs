//! Data sets.
//!
//! [`dataset`] is the folder that generation leaves behind and everything else reads, with
//! [`manifest`] saying how it was made; [`writer`] makes it, and makes again what is damaged; [`check`]
//! looks at every byte of it, [`merge`] joins shards of one, and [`webdataset`] packs it; [`pool`] joins several, and [`pairs`]
//! draws preferences from them; [`noise`] tells which pictures two sets share.

pub mod check;
mod claim;
pub mod dataset;
mod error;
pub mod manifest;
pub mod merge;
pub mod noise;
mod on_disk;
pub mod pairs;
pub mod pool;
pub mod webdataset;
pub mod writer;
