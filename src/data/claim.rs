//! Keeping the writers of a folder apart.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::base::{fsio, lock};
use crate::store::Store;

/// The lock's file.
pub(super) const LOCK: &str = ".lock";

/// The lock of a folder: writers share it, and whoever cleans up or joins needs it alone. In an object store
/// nobody can lock, and everybody is taken to be alone.
#[derive(Debug)]
pub(super) struct Claim(Option<(File, PathBuf)>);

impl Claim {
    /// Opens the lock; its folder must be there.
    pub(super) fn open(store: &Store) -> fsio::Result<Self> {
        Ok(Self(match store {
            Store::Folder(dir) => {
                let path = dir.join(LOCK);
                Some((lock::open(&path)?, path))
            }
            Store::Bucket(_) => None,
        }))
    }

    /// Takes it alone, if nobody else has it.
    pub(super) fn alone(&self) -> fsio::Result<bool> {
        match &self.0 {
            Some((file, path)) => lock::take_file(file, path),
            None => Ok(true),
        }
    }

    /// Takes it with others, when nobody has it alone.
    pub(super) fn share(&self) -> fsio::Result<()> {
        self.each(File::lock_shared)
    }

    /// Gives it back.
    pub(super) fn release(&self) -> fsio::Result<()> {
        self.each(File::unlock)
    }

    fn each(&self, act: impl Fn(&File) -> io::Result<()>) -> fsio::Result<()> {
        match &self.0 {
            Some((file, path)) => act(file).map_err(fsio::at("lock", path)),
            None => Ok(()),
        }
    }
}
