//! What is being written, under its temporary names: a command that is left at once removes it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of the whole process, as leaving it is.
static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn pending() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A temporary name that stands for as long as this lives.
#[derive(Debug)]
pub(super) struct Pending(PathBuf);

impl Pending {
    /// Makes something and lists its temporary name; none is made any more once all are removed.
    pub(super) fn new<T: AsRef<Path>>(
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut pending = pending();
        let made = make()?;
        let path = made.as_ref().to_path_buf();
        pending.insert(path.clone());
        Ok((made, Self(path)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        pending().remove(&self.0);
    }
}

/// Removes everything that is being written, for a process that ends now: whoever wants to begin
/// another file or to finish one waits from here on.
pub(crate) fn abandon() {
    let pending = pending();
    for path in pending.iter() {
        // What can't be removed has a name that says what it is; the process ends all the same.
        let _ = match path.is_dir() {
            true => remove_dir(path),
            false => fs::remove_file(path),
        };
    }
    std::mem::forget(pending);
}

/// Removes a folder that other threads are still writing into: under another name they don't find it.
fn remove_dir(path: &Path) -> io::Result<()> {
    let gone = path.with_extension("gone");
    fs::rename(path, &gone)?;
    fs::remove_dir_all(&gone).or_else(|_| fs::remove_dir_all(&gone))
}
