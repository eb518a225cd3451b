//! Locks between processes: files that are locked while somebody works.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::fsio;

/// Opens a lock's file, which nothing is ever written to.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn open(path: &Path) -> fsio::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(fsio::at("lock", path))
}

/// Waits until nobody else holds the lock; it is held while the file lives.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn wait(path: &Path) -> fsio::Result<File> {
    let file = open(path)?;
    file.lock().map_err(fsio::at("lock", path))?;
    Ok(file)
}

/// Takes the lock for as long as the file lives; nothing if somebody else holds it.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn take(path: &Path) -> fsio::Result<Option<File>> {
    let file = open(path)?;
    Ok(take_file(&file, path)?.then_some(file))
}

/// Takes the lock of an open file, if nobody else holds it.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn take_file(file: &File, path: &Path) -> fsio::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(fsio::at("lock", path)(source)),
    }
}
