//! Files made by hand: their lengths and directories are right even where their contents are not.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join("tests/fixtures").join(name)).unwrap()
}

/// A safetensors file of a header and bytes.
pub(crate) fn safetensors(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Header and bytes of a safetensors file.
pub(crate) fn header_of(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (file[8..8 + length].to_vec(), file[8 + length..].to_vec())
}

/// A zip file of stored entries.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in entries {
        let sizes = [0, bytes.len() as u32, bytes.len() as u32]
            .map(u32::to_le_bytes)
            .concat();
        let lengths = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
        let offset = file.len() as u32;
        file.extend([b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0", &sizes[..], &lengths].concat());
        file.extend([name.as_bytes(), bytes].concat());
        directory.extend(
            [
                b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0",
                &sizes[..],
                &lengths,
            ]
            .concat(),
        );
        directory.extend([0; 10]);
        directory.extend([&offset.to_le_bytes(), name.as_bytes()].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let place = [directory.len() as u32, file.len() as u32]
        .map(u32::to_le_bytes)
        .concat();
    file.extend(directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &place, &[0, 0]].concat());
    file
}

/// A torch file of a pickle and one storage of `storage` bytes.
pub(crate) fn torch(pickle: &[u8], storage: usize) -> Vec<u8> {
    zip(&[
        ("x/data.pkl", pickle),
        ("x/byteorder", b"little"),
        ("x/data/0", &vec![7; storage]),
    ])
}

/// Pickles `{name: tensor}`, with numbers as they are given.
pub(crate) fn state(name: &str, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let mut code = b"\x80\x02}".to_vec();
    text(&mut code, name);
    code.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut code, "storage");
    code.extend(b"ctorch\nFloatStorage\n");
    text(&mut code, "0");
    text(&mut code, "cpu");
    code.extend(b"K\x04tQ");
    long(&mut code, offset);
    for numbers in [shape, strides] {
        code.push(b'(');
        numbers.iter().for_each(|&n| long(&mut code, n));
        code.push(b't');
    }
    code.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    code
}

pub(crate) fn text(code: &mut Vec<u8>, text: &str) {
    code.push(b'X');
    code.extend((text.len() as u32).to_le_bytes());
    code.extend(text.as_bytes());
}

fn long(code: &mut Vec<u8>, number: i64) {
    code.extend(b"\x8a\x08");
    code.extend(number.to_le_bytes());
}

/// The pickle in one of torch's files, which is stored in it.
pub(crate) fn pickle_of(file: &[u8]) -> Vec<u8> {
    let name = b"data.pkl";
    let at = file.windows(name.len()).position(|w| w == name).unwrap();
    let start = file[at..]
        .windows(2)
        .position(|w| w == b"\x80\x02")
        .unwrap()
        + at;
    let end = file[start..]
        .windows(4)
        .position(|w| w == b"PK\x07\x08" || w == b"PK\x03\x04");
    file[start..start + end.unwrap()].to_vec()
}

/// Writes a file into a folder.
pub(crate) fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}
