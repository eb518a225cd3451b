//! What every other room stands on.

pub mod dtype;
