//! The one way to write a file.
//!
//! A reader never sees half of anything: contents go to a temporary file in the target's own
//! folder, are flushed to the disk, and are renamed over the target; the folder is flushed too, so
//! that the rename itself survives a power cut. A failed write leaves the old file as it was.

mod dir;
mod error;
mod file;
mod folder;
mod hash;
mod journal;
mod link;
mod pending;
mod resumable;

pub use dir::AtomicDir;
pub(crate) use error::at;
pub use error::{Error, Result};
pub use file::{AtomicFile, read, read_to_string, write};
pub use folder::{
    PARTIAL, create_dir_all, free, is_url, refuse_url, remove_if_present, remove_partial,
};
pub use hash::{Hashing, hex, sha256, sha256_bytes};
pub use journal::Journal;
pub use link::{Linked, copy, link_or_copy, symlink};
pub(crate) use pending::abandon;
pub use resumable::Resumable;

#[cfg(test)]
mod tests;
