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
    /// The target is a file of its own whose blocks are the source's, until somebody writes into
    /// one of the two: no bytes were copied.
    Reflink,
    /// Both names are one file: no bytes were copied.
    Hard,
    /// The target is a file of its own; the bytes were copied.
    Copied,
}

/// Gives `source`'s bytes the name `target`, without copying them where the file system allows: by a
/// reflink (btrfs, XFS, bcachefs), else by a hard link, else by a copy.
///
/// An existing `target` is replaced. Symbolic links in `source` are followed, so that what is
/// linked is the file itself (ONNX Runtime refuses symbolic links as external data).
pub fn link_or_copy(source: &Path, target: &Path) -> Result<Linked> {
    let real = fs::canonicalize(source).map_err(at("read", source))?;
    if reflink(&real, target)? {
        return Ok(Linked::Reflink);
    }
    let (holder, _pending) = holder(target)?;
    let temp = holder.path().join("link");
    if fs::hard_link(&real, &temp).is_ok() {
        fs::rename(&temp, target).map_err(at("write", target))?;
        // Renaming onto a name of the same file does nothing and leaves the first name; the
        // holder removes it.
        sync_dir(parent(target))?;
        return Ok(Linked::Hard);
    }
    copy_bytes(&real, target)?;
    Ok(Linked::Copied)
}

/// Gives `target` a file of its own with `source`'s bytes: a reflink where the file system can, else a
/// copy. An existing `target` is replaced.
pub fn copy(source: &Path, target: &Path) -> Result<Linked> {
    let real = fs::canonicalize(source).map_err(at("read", source))?;
    if reflink(&real, target)? {
        return Ok(Linked::Reflink);
    }
    copy_bytes(&real, target)?;
    Ok(Linked::Copied)
}

fn copy_bytes(real: &Path, target: &Path) -> Result<()> {
    let mut from = File::open(real).map_err(at("read", real))?;
    let size = from.metadata().map_err(at("read", real))?.len();
    let slow = Slow::bytes("copying", real, Some(size));
    let mut to = AtomicFile::saying(target.to_path_buf(), slow)?;
    io::copy(&mut from, &mut to).map_err(at("write", target))?;
    to.commit()
}

/// Makes `target` a reflink to the file `real`; says whether the system could.
fn reflink(real: &Path, target: &Path) -> Result<bool> {
    let from = File::open(real).map_err(at("read", real))?;
    let (holder, _pending) = holder(target)?;
    let temp = holder.path().join("reflink");
    let to = File::create(&temp).map_err(at("write", target))?;
    // Other file systems, and those that have none, are told apart by trying alone.
    if clone(&from, &to).is_err() {
        return Ok(false);
    }
    to.sync_all().map_err(at("write", target))?;
    fs::rename(&temp, target).map_err(at("write", target))?;
    sync_dir(parent(target))?;
    Ok(true)
}

/// Lets an empty file have another one's blocks.
#[cfg(target_os = "linux")]
fn clone(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Lets an empty file have another one's blocks; here it isn't asked for.
#[cfg(not(target_os = "linux"))]
fn clone(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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
