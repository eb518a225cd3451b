//! Hashes of files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Result, at};
use crate::base::slow::Slow;

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(at("read", path))?;
    let size = file.metadata().map_err(at("read", path))?.len();
    let mut slow = Slow::bytes("hashing", path, Some(size));
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            n => {
                hash.update(&buffer[..n]);
                slow.add(n as u64);
            }
        }
    }
}

/// SHA-256 of bytes, in lower-case hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A writer that hashes what passes through it.
#[derive(Debug)]
pub struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    /// In front of another writer.
    pub fn new(to: W) -> Self {
        let hash = Sha256::new();
        Self { to, hash }
    }

    /// The other writer, and the SHA-256 of what it was given, in lower-case hexadecimal.
    pub fn end(self) -> (W, String) {
        (self.to, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
