//! Prompts, axes and data sets.
//!
//! [`prompts`] reads what the user wants drawn, [`axes`] says which populations there are and how
//! a caption names them, [`dataset`] is the folder that generation leaves behind and everything
//! else reads, with [`manifest`] saying how it was made; [`pool`] joins several.

pub mod dataset;
pub mod manifest;
pub mod pairs;
pub mod pool;
pub mod writer;
