//! Whole files.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::folder::{PARTIAL, parent, sync_dir};
use super::pending::Pending;
use super::{Result, at};
use crate::base::slow::Slow;

/// A file being written: nothing appears under its name until [`AtomicFile::commit`].
///
/// Dropping it without a commit removes the temporary file.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    temp: BufWriter<NamedTempFile>,
    slow: Slow,
    pending: Pending,
}

impl AtomicFile {
    /// Starts writing `path`. Its folder must exist.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let slow = Slow::bytes("writing", &path, None);
        Self::saying(path, slow)
    }

    /// The same; where it takes long, `slow` says what is done.
    pub(super) fn saying(path: PathBuf, slow: Slow) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PARTIAL);
        // A temporary file is private by default; what replaces a file should be as readable as
        // any file the user creates.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let (temp, pending) =
            Pending::new(|| builder.tempfile_in(parent(&path))).map_err(at("write", &path))?;
        Ok(Self {
            path,
            temp: BufWriter::with_capacity(1 << 20, temp),
            slow,
            pending,
        })
    }

    /// Flushes to the disk and puts the file under its name.
    pub fn commit(self) -> Result<()> {
        let Self {
            path,
            temp,
            pending,
            ..
        } = self;
        let temp = temp
            .into_inner()
            .map_err(|e| at("write", &path)(e.into_error()))?;
        temp.as_file().sync_all().map_err(at("write", &path))?;
        temp.persist(&path)
            .map_err(|e| at("write", &path)(e.error))?;
        drop(pending);
        sync_dir(parent(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.temp.write(bytes)?;
        self.slow.add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

/// Writes `bytes` to `path`, whole or not at all.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref()).map_err(at("write", path))?;
    file.commit()
}

/// Reads a whole file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    fs::read(path.as_ref()).map_err(at("read", path.as_ref()))
}

/// Reads a whole UTF-8 file.
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    fs::read_to_string(path.as_ref()).map_err(at("read", path.as_ref()))
}
