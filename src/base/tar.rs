//! Tar archives (POSIX.1-1988 `ustar`): plain files, without dates, owners or rights, so that the same files
//! give the same bytes.

use std::io::{self, Write};

/// What everything is padded to.
const BLOCK: usize = 512;
/// Longest name and largest file that a header's fields hold.
const LONGEST: usize = 100;
const LARGEST: u64 = 0o77_777_777_777;

/// An archive being written.
#[derive(Debug)]
pub(crate) struct Tar<W: Write>(W);

impl<W: Write> Tar<W> {
    /// Starts one.
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// What the output refuses; a name of more than 100 bytes, contents of 8 GiB or more.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(&header(name, bytes.len() as u64)?)?;
        self.0.write_all(bytes)?;
        let end = bytes.len().next_multiple_of(BLOCK) - bytes.len();
        self.0.write_all(&[0; BLOCK][..end])
    }

    /// Ends it, and gives the output back.
    ///
    /// # Errors
    /// What the output refuses.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        Ok(self.0)
    }
}

fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    let refused = |problem: String| Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    if name.len() > LONGEST {
        return refused(format!(
            "{name}: a tar's names have {LONGEST} bytes at most"
        ));
    }
    if size > LARGEST {
        return refused(format!(
            "{name}: a tar's files have {LARGEST} bytes at most"
        ));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0"); // rights
    put(108, b"0000000\0"); // owner
    put(116, b"0000000\0"); // group
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0"); // day
    put(148, b"        "); // the sum of bytes, of which this is part
    put(156, b"0"); // a plain file
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_the_end_is_two_blocks() {
        let mut tar = Tar::new(Vec::new());
        tar.add("a.txt", b"hello").unwrap();
        tar.add("empty", b"").unwrap();
        tar.add("full", &[7; BLOCK]).unwrap();
        let bytes = tar.end().unwrap();
        assert_eq!(bytes.len(), (2 + 1 + 2 + 2) * BLOCK);
        assert_eq!(&bytes[BLOCK..BLOCK + 5], b"hello");
        // As `printf hello > a.txt; tar --format=ustar --owner=0 --group=0 --mode=644 --mtime=@0` has
        // it, but for the owner's name.
        assert_eq!(&bytes[124..136], b"00000000005\0");
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..BLOCK])
            .map(|&b| u32::from(b))
            .sum();
        assert_eq!(bytes[148..154], *format!("{:06o}", sum + 8 * 32).as_bytes());
    }

    #[test]
    fn what_a_header_cannot_hold_is_refused() {
        let mut tar = Tar::new(Vec::new());
        assert!(tar.add(&"x".repeat(101), b"").is_err());
        assert!(header("x", LARGEST + 1).is_err());
    }
}
