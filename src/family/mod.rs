//! Families of models: what one file of theirs holds, and under which names.

pub mod checkpoint;
