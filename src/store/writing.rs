//! Files that are written piece by piece.

use std::io::{self, Seek, Write};

use tempfile::SpooledTempFile;

use super::Result;
use super::bucket::{Bucket, PART};
use crate::base::fsio::{self, AtomicFile, Hashing};

/// A file being written: nothing appears under its name until [`Writing::commit`].
#[derive(Debug)]
pub enum Writing {
    /// A folder's file.
    File(AtomicFile),
    /// An object.
    Upload(Upload),
}

/// An object being written: it is held here until it is whole, in memory while it is small, else in a
/// temporary file without a name.
#[derive(Debug)]
pub struct Upload {
    bucket: Bucket,
    name: String,
    held: Hashing<SpooledTempFile>,
}

impl Upload {
    pub(super) fn new(bucket: &Bucket, name: &str) -> Self {
        Self {
            bucket: bucket.clone(),
            name: name.to_owned(),
            held: Hashing::new(SpooledTempFile::new(PART)),
        }
    }

    fn commit(self) -> Result<()> {
        let Self { bucket, name, held } = self;
        let (mut held, sha256) = held.end();
        let failed = |error| bucket.failed("write", &name, error);
        held.rewind().map_err(failed)?;
        if held.is_rolled() {
            return bucket.write_parts(&name, held, sha256);
        }
        let mut bytes = Vec::new();
        io::copy(&mut held, &mut bytes).map_err(failed)?;
        bucket.write(&name, bytes, sha256)
    }
}

impl Writing {
    /// Puts the file under its name.
    ///
    /// # Errors
    /// What the disk or the store refuses.
    pub fn commit(self) -> Result<()> {
        match self {
            Self::File(file) => Ok(file.commit()?),
            Self::Upload(upload) => upload.commit(),
        }
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Upload(upload) => upload.held.write(bytes).map_err(|error| {
                // It is this disk that is full, not the store.
                io::Error::other(fsio::at("write to", &std::env::temp_dir())(error))
            }),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Upload(upload) => upload.held.flush(),
        }
    }
}
