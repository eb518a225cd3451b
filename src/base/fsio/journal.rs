//! Files that only grow.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::{Result, at};

/// A file of lines that only grows, for logs that must survive a kill.
///
/// [`Journal::open`] drops a torn last line. Lines reach the disk at [`Journal::sync`].
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates `path` and keeps its leading complete lines for which `keep` is true,
    /// cutting the file at the first line for which it is not (a resume point).
    pub fn open(path: impl Into<PathBuf>, mut keep: impl FnMut(&str) -> bool) -> Result<Self> {
        let path = path.into();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at("read", &path))?;
        let kept: usize = bytes
            .split_inclusive(|&b| b == b'\n')
            .take_while(|line| {
                line.ends_with(b"\n")
                    && std::str::from_utf8(line).is_ok_and(|text| keep(text.trim_end()))
            })
            .map(<[u8]>::len)
            .sum();
        file.set_len(kept as u64).map_err(at("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(at("write", &path))?;
        Ok(Self { path, file })
    }

    /// Opens or creates `path` and keeps its first `length` bytes.
    pub fn open_at(path: impl Into<PathBuf>, length: u64) -> Result<Self> {
        let path = path.into();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at("open", &path))?;
        file.set_len(length).map_err(at("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(at("write", &path))?;
        Ok(Self { path, file })
    }

    /// Appends one line; `line` holds no line break.
    pub fn append(&mut self, line: &str) -> Result<()> {
        self.append_bytes(format!("{line}\n").as_bytes())
    }

    /// Appends raw bytes (a framed binary record), in one write.
    pub fn append_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(at("write", &self.path))
    }

    /// Waits until everything appended is on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(at("write", &self.path))
    }
}
