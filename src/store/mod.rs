//! Files of one place by their names: of a folder, or under a prefix of an object store.
//!
//! A folder's files are read and written as everywhere (`base::fsio`). In an object store nothing is ever
//! half there either: an object is put whole or not at all, and whoever lists or reads sees it from then on.
//! What a store lacks are folders, locks and memory maps: files that are mapped are fetched into an
//! unnamed temporary file first, and nobody can be kept from writing. `data::writer` says why that is no
//! harm.
//!
//! Reading every byte back to know that it is the right one would cost more than drawing it, so an object
//! says its SHA-256 itself, as metadata that is put with the bytes in one step. Whoever puts another object
//! under the name takes that with it. `pa-datagen check` reads every byte all the same
//! ([`Store::doubting`]).

mod bucket;
mod client;
mod connect;
mod error;
mod files;
mod place;
mod writing;

pub use bucket::Bucket;
pub use error::{Error, Result};
pub use files::{Compared, Opened, Store};
pub use place::{Address, NoPlace, Place};
pub use writing::{Upload, Writing};
