//! Folders, and what is in them.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Result, at};

/// What the names of files and folders being written begin with. A kill can leave some.
pub const PARTIAL: &str = ".partial-";

/// Creates a folder and its parents. A URL is refused.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    refuse_url(path)?;
    fs::create_dir_all(path).map_err(at("create", path))
}

/// Refuses a URL where a folder is written: it would become a folder `s3:`.
pub fn refuse_url(path: &Path) -> Result<()> {
    let reason = "it is a URL, and this takes a folder";
    match is_url(path) {
        true => Err(at("create", path)(io::Error::new(
            io::ErrorKind::InvalidInput,
            reason,
        ))),
        false => Ok(()),
    }
}

/// Whether a path is meant as a URL: it begins with a scheme, as in `s3://bucket`. (One letter and a colon
/// is a disk of Windows.)
pub fn is_url(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once(":/"));
    scheme.is_some_and(|(scheme, _)| {
        let letters = scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        scheme.len() > 1 && letters && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
    })
}

/// Removes a file; one that is not there is fine.
pub fn remove_if_present(path: impl AsRef<Path>) -> Result<()> {
    match fs::remove_file(path.as_ref()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("remove", path.as_ref())(e)),
        _ => Ok(()),
    }
}

/// Removes what killed writers left in a folder. Nobody else may be writing there.
pub fn remove_partial(dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        } else {
            remove_if_present(&path)?;
        }
    }
    Ok(())
}

/// Bytes free for this user where `path` is or would be; nothing where the system doesn't say.
#[cfg(unix)]
pub fn free(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    let there = path.ancestors().find(|above| above.exists())?;
    let found = rustix::fs::statvfs(there).ok()?;
    Some(found.f_bavail * found.f_frsize)
}

/// Bytes free where `path` is or would be; here the system isn't asked.
#[cfg(not(unix))]
pub fn free(_: &Path) -> Option<u64> {
    None
}

/// The folder that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Flushes the names in a folder to the disk.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    // Folders can't be opened for flushing on every platform; where they can't, rename is all
    // there is.
    match File::open(dir) {
        Ok(handle) => handle.sync_all().or(Ok(())),
        Err(_) => Ok(()),
    }
}
