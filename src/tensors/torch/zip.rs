//! The directory of a zip file (PKWARE's APPNOTE), as far as torch uses it: stored entries, zip64.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Most entries accepted.
const MAX_ENTRIES: u64 = 1 << 20;
/// Longest directory accepted, in bytes.
const MAX_DIRECTORY: u64 = 64 << 20;
/// Size of the record that ends the directory, and the longest comment after it.
const END: u64 = 22;
const MAX_COMMENT: u64 = 0xffff;
/// Stands where a number is in the zip64 field instead.
const IN_ZIP64: u32 = u32::MAX;

/// Why a zip file is refused.
#[derive(Debug)]
pub(super) enum Problem {
    Io(io::Error),
    Format(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn bad<T>(problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Format(format!("zip: {}", problem.into())))
}

/// Where an entry's bytes are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether they are as they were. TorchScript compresses its code, which nobody here reads.
    pub(super) stored: bool,
}

/// All entries by name. Every one lies within the file and overlaps no other.
pub(super) fn entries(file: &mut File) -> Result<BTreeMap<String, Entry>, Problem> {
    let size = file.metadata()?.len();
    let directory = directory(file, size)?;
    let mut rest = directory.as_slice();
    let mut entries = BTreeMap::new();
    while !rest.is_empty() {
        let (record, after) = central(rest)?;
        rest = after;
        let entry = local(file, size, &record)?;
        let name = record.name;
        if entries.insert(name.clone(), entry).is_some() {
            return bad(format!("entry {name} comes twice"));
        }
    }
    let mut ranges: Vec<Entry> = entries.values().copied().filter(|e| e.length > 0).collect();
    ranges.sort_by_key(|e| e.offset);
    match ranges
        .windows(2)
        .find(|w| w[0].offset + w[0].length > w[1].offset)
    {
        Some(_) => bad("two entries overlap"),
        None => Ok(entries),
    }
}

/// The bytes of the central directory.
fn directory(file: &mut File, size: u64) -> Result<Vec<u8>, Problem> {
    let tail_length = size.min(END + MAX_COMMENT);
    let tail = read_at(file, size, size - tail_length, tail_length)?;
    let Some(at) = tail
        .windows(4)
        .rposition(|w| w == b"PK\x05\x06")
        .filter(|at| at + END as usize <= tail.len())
    else {
        return bad("it has no end record: it is truncated");
    };
    let record = &tail[at..];
    let mut count = u64::from(u16_at(record, 10));
    let mut length = u64::from(u32_at(record, 12));
    let mut offset = u64::from(u32_at(record, 16));
    // The zip64 record is found through a locator right before the end record.
    let end = size - tail_length + at as u64;
    if let Some(locator_at) = end.checked_sub(20) {
        let locator = read_at(file, size, locator_at, 20)?;
        if locator.starts_with(b"PK\x06\x07") {
            let record = read_at(file, size, u64_at(&locator, 8), 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return bad("its zip64 end record is not where it should be");
            }
            count = u64_at(&record, 32);
            length = u64_at(&record, 40);
            offset = u64_at(&record, 48);
        }
    }
    if count > MAX_ENTRIES || length > MAX_DIRECTORY {
        return bad(format!(
            "{count} entries in a directory of {length} bytes are too many"
        ));
    }
    read_at(file, size, offset, length)
}

/// What the directory says of an entry.
struct Record {
    name: String,
    /// Where the entry's own header is.
    header: u64,
    /// The bytes that it takes.
    length: u64,
    stored: bool,
}

/// One record of the directory, and what follows it.
fn central(bytes: &[u8]) -> Result<(Record, &[u8]), Problem> {
    if bytes.len() < 46 || !bytes.starts_with(b"PK\x01\x02") {
        return bad("its directory is malformed");
    }
    let (flags, method) = (u16_at(bytes, 8), u16_at(bytes, 10));
    let lengths = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
    let [name_end, extra_end, end] = [
        46 + lengths[0],
        46 + lengths[0] + lengths[1],
        46 + lengths[0] + lengths[1] + lengths[2],
    ];
    if end > bytes.len() {
        return bad("its directory is truncated");
    }
    let Ok(name) = String::from_utf8(bytes[46..name_end].to_vec()) else {
        return bad("a name in it is not UTF-8");
    };
    let stored = method == 0 && flags & 1 == 0;
    let [packed, length, header] = [20, 24, 42].map(|at| u32_at(bytes, at));
    let mut wide = zip64(&bytes[name_end..extra_end]);
    // Only the numbers that don't fit are in the zip64 field, in this order.
    let mut number = |short: u32| match short {
        IN_ZIP64 => wide.next(),
        short => Some(u64::from(short)),
    };
    let (Some(length), Some(packed), Some(header)) =
        (number(length), number(packed), number(header))
    else {
        return bad(format!("entry {name} lacks its zip64 sizes"));
    };
    if stored && packed != length {
        return bad(format!(
            "entry {name} is stored, but with two different sizes"
        ));
    }
    let record = Record {
        name,
        header,
        length: packed,
        stored,
    };
    Ok((record, &bytes[end..]))
}

/// The numbers of the zip64 field among extra fields.
fn zip64(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut field: &[u8] = &[];
    while extra.len() >= 4 {
        let end = (4 + usize::from(u16_at(extra, 2))).min(extra.len());
        if u16_at(extra, 0) == 1 {
            field = &extra[4..end];
        }
        extra = &extra[end..];
    }
    field
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&b| u64::from_le_bytes(b))
}

/// Where an entry's bytes begin: after its own header, whose extra field differs in length.
fn local(file: &mut File, size: u64, record: &Record) -> Result<Entry, Problem> {
    let (name, length) = (&record.name, record.length);
    let bytes = read_at(file, size, record.header, 30)?;
    if !bytes.starts_with(b"PK\x03\x04") {
        return bad(format!("entry {name} is not where the directory says"));
    }
    let skipped = u64::from(u16_at(&bytes, 26)) + u64::from(u16_at(&bytes, 28));
    let offset = record.header + 30 + skipped;
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return bad(format!("entry {name} ends behind the file's end"));
    }
    Ok(Entry {
        offset,
        length,
        stored: record.stored,
    })
}

/// Bytes of a file of `size` bytes.
fn read_at(file: &mut File, size: u64, offset: u64, length: u64) -> Result<Vec<u8>, Problem> {
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return bad("it points behind its end: it is truncated");
    }
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Numbers at a place; callers have checked the length.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
