//! Files that are fetched piece by piece.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::folder::{parent, sync_dir};
use super::{Result, at, sha256};

/// A file that is fetched piece by piece, by several processes one after the other: what was
/// written stays as `NAME.incomplete` until [`Resumable::commit`] gives it its name.
#[derive(Debug)]
pub struct Resumable {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    len: u64,
}

impl Resumable {
    /// Goes on with the file `name` in `dir`, or starts it. Nobody else may be writing it.
    pub fn open(dir: impl AsRef<Path>, name: &str) -> Result<Self> {
        let partial = dir.as_ref().join(format!("{name}.incomplete"));
        let failed = at("write", &partial);
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&partial);
        let file = file.map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self {
            path: dir.as_ref().join(name),
            partial,
            file,
            len,
        })
    }

    /// Bytes that are there.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a length to go on from, not a container"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(at("write", &self.partial))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Starts from the beginning.
    pub fn truncate(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(at("write", &self.partial))?;
        self.len = 0;
        Ok(())
    }

    /// SHA-256 of what is there.
    pub fn sha256(&self) -> Result<String> {
        sha256(&self.partial)
    }

    /// Flushes to the disk and puts the file under its name.
    pub fn commit(self) -> Result<()> {
        let Self {
            path,
            partial,
            file,
            ..
        } = self;
        file.sync_all().map_err(at("write", &partial))?;
        fs::rename(&partial, &path).map_err(at("write", &path))?;
        sync_dir(parent(&path))
    }
}
