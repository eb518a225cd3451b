//! Second names for files.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

use super::file::AtomicFile;
use super::folder::{PARTIAL, parent, sync_dir};
use super::pending::Pending;
use super::{Result, at};
use crate::base::slow::Slow;

/// How a file came to stand under a second name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// Both names are one file: no bytes were copied.
    Hard,
    /// The target is on another file system; its bytes were copied.
    Copied,
}

/// Gives `source`'s bytes the name `target`, without copying them where the file system allows.
///
/// An existing `target` is replaced. Symbolic links in `source` are followed, so that what is
/// linked is the file itself (ONNX Runtime refuses symbolic links as external data).
pub fn link_or_copy(source: &Path, target: &Path) -> Result<Linked> {
    let real = fs::canonicalize(source).map_err(at("read", source))?;
    let (holder, _pending) = holder(target)?;
    let temp = holder.path().join("link");
    if fs::hard_link(&real, &temp).is_ok() {
        fs::rename(&temp, target).map_err(at("write", target))?;
        // Renaming onto a name of the same file does nothing and leaves the first name; the
        // holder removes it.
        sync_dir(parent(target))?;
        return Ok(Linked::Hard);
    }
    let mut from = File::open(&real).map_err(at("read", &real))?;
    let size = from.metadata().map_err(at("read", &real))?.len();
    let slow = Slow::bytes("copying", source, Some(size));
    let mut to = AtomicFile::saying(target.to_path_buf(), slow)?;
    io::copy(&mut from, &mut to).map_err(at("write", target))?;
    to.commit()?;
    Ok(Linked::Copied)
}

/// A folder beside `target` for a name that is then renamed.
fn holder(target: &Path) -> Result<(TempDir, Pending)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL);
    Pending::new(|| builder.tempdir_in(parent(target))).map_err(at("write", target))
}

/// Makes `link` a symbolic link to `target`, which is relative to the link's folder; where the
/// system has none, a second name of the file. What has the name already is replaced.
pub fn symlink(target: &Path, link: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let (holder, _pending) = holder(link)?;
        let temp = holder.path().join("link");
        std::os::unix::fs::symlink(target, &temp).map_err(at("write", link))?;
        fs::rename(&temp, link).map_err(at("write", link))?;
        sync_dir(parent(link))
    }
    #[cfg(not(unix))]
    link_or_copy(&parent(link).join(target), link).map(|_| ())
}
