//! What a weight file is, without reading all of a huge one.
//!
//! Hashing 7 GB takes longer than everything else an export does. A file up to [`WHOLE`] bytes is
//! known by its sha256; a larger one by the sha256 of its size, its first and last megabyte (a
//! safetensors header is at the front) and a page every few megabytes. Two checkpoints of one
//! architecture differ in nearly every page, so samples tell them apart; a change to a few tensors
//! of a file in place may escape them, which is why the time of the last write is compared first.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::fsio;

/// Largest file that is hashed whole.
const WHOLE: u64 = 64 << 20;
/// Bytes hashed at either end of a larger one.
const END: u64 = 1 << 20;
/// Bytes hashed of each sample between the ends, and the distance between samples.
const SAMPLE: u64 = 4 << 10;
const STRIDE: u64 = 4 << 20;

/// What identifies a weight file's contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// SHA-256 of all bytes.
    #[serde(rename = "sha256")]
    Whole(String),
    /// SHA-256 of the size and of samples of a huge file.
    #[serde(rename = "sampled_sha256")]
    Sampled(String),
}

impl Identity {
    /// Identifies a file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn of(path: &Path) -> fsio::Result<Self> {
        let failed = fsio::at("read", path);
        let size = path.metadata().map_err(failed)?.len();
        if size <= WHOLE {
            return fsio::sha256(path).map(Self::Whole);
        }
        let bytes = samples(path, size).map_err(failed)?;
        Ok(Self::Sampled(fsio::sha256_bytes(&bytes)))
    }

    /// The identity as one word: the sha256 itself where it is of the whole file.
    pub fn text(&self) -> String {
        match self {
            Self::Whole(hash) => hash.clone(),
            Self::Sampled(hash) => format!("sampled-{hash}"),
        }
    }

    /// Whether it is of all bytes.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

/// The size and the sampled bytes of a file larger than [`WHOLE`].
fn samples(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = size.to_le_bytes().to_vec();
    let mut take = |from: u64, length: u64| {
        file.seek(SeekFrom::Start(from))?;
        let start = bytes.len();
        bytes.resize(start + length as usize, 0);
        file.read_exact(&mut bytes[start..])
    };
    take(0, END)?;
    let mut from = STRIDE;
    while from + SAMPLE <= size - END {
        take(from, SAMPLE)?;
        from += STRIDE;
    }
    take(size - END, END)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn small_files_are_hashed_whole_and_huge_ones_by_samples() {
        let dir = tempfile::tempdir().unwrap();
        let small = dir.path().join("small");
        fsio::write(&small, "weights").unwrap();
        let whole = Identity::of(&small).unwrap();
        assert_eq!(whole.text(), fsio::sha256_bytes(b"weights"));

        let huge = dir.path().join("huge");
        let file = File::create(&huge).unwrap();
        file.set_len(WHOLE + 5).unwrap();
        let first = Identity::of(&huge).unwrap();
        assert!(!first.is_whole());
        // A sample, the very end and the length count.
        for (place, length) in [
            (8 * STRIDE + 7, WHOLE + 5),
            (WHOLE + 4, WHOLE + 5),
            (0, WHOLE + 6),
        ] {
            let mut file = File::options().write(true).open(&huge).unwrap();
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
            file.seek(SeekFrom::Start(place)).unwrap();
            file.write_all(&[u8::from(length == WHOLE + 5)]).unwrap();
            assert_ne!(Identity::of(&huge).unwrap(), first, "{place}");
        }
    }
}
