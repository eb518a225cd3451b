//! The safetensors format: headers read and checked, files written.
//!
//! A file is 8 bytes of header length (little-endian), a JSON header, and the tensors' bytes
//! (<https://github.com/huggingface/safetensors>). The header is parsed here rather than by the
//! `safetensors` crate for two reasons: an error must name the tensor it is about, and a file may
//! be larger than what one wants to map. The rules checked are the crate's: offsets without holes
//! or overlaps, sizes that fit shape and type, an end that is the file's end. Writing is here so
//! that the bytes depend on nothing but the contents (the crate keeps metadata in a hash map).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{DType, Error, Result, Tensor};
use crate::base::fsio;
use crate::base::fsio::AtomicFile;

/// Longest header accepted, in bytes; the limit of the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// One header entry as it stands in the file.
#[derive(Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// What a header says.
pub(super) struct Header {
    /// The tensors in the order of their bytes.
    pub(super) tensors: Vec<Tensor>,
    /// Free-form `__metadata__`.
    pub(super) metadata: BTreeMap<String, String>,
}

/// The `__metadata__` strings of a safetensors file.
pub fn metadata(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>> {
    Ok(read_header(&path.as_ref().into())?.metadata)
}

/// Reads and checks the header of `path`; the tensors' bytes are not touched.
pub(super) fn read_header(path: &Arc<Path>) -> Result<Header> {
    let failed = fsio::at("read", path);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    header_of(path, &mut file, size)
}

/// As [`read_header`], of a file that is open: `bytes` are its bytes from the first, `size` their
/// number.
pub(super) fn header_of(path: &Arc<Path>, bytes: &mut dyn Read, size: u64) -> Result<Header> {
    let malformed = |problem: String| Error::Malformed {
        file: path.to_path_buf(),
        problem,
    };
    let failed = fsio::at("read", path);
    let Some(body) = size.checked_sub(8) else {
        return Err(malformed(format!(
            "truncated: {size} bytes, and a safetensors file has at least 8"
        )));
    };
    let mut length = [0; 8];
    bytes.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(malformed(format!(
            "not a safetensors file: its header would have {length} bytes (at most {MAX_HEADER})"
        )));
    }
    let Some(data) = body.checked_sub(length) else {
        return Err(malformed(format!(
            "truncated: a header of {length} bytes is announced, {body} bytes are there"
        )));
    };
    let mut header = vec![0; length as usize];
    bytes.read_exact(&mut header).map_err(failed)?;
    // Entries stay text until each is read: a tree of values takes many times their bytes.
    let mut entries: BTreeMap<String, &RawValue> = serde_json::from_slice(&header)
        .map_err(|e| malformed(format!("header is not a JSON object: {e}")))?;
    let metadata = match entries.remove("__metadata__") {
        Some(value) => serde_json::from_str(value.get())
            .map_err(|e| malformed(format!("`__metadata__` is not a map of strings: {e}")))?,
        None => BTreeMap::new(),
    };
    let tensors = place(path, entries, 8 + length, data).map_err(malformed)?;
    Ok(Header { tensors, metadata })
}

/// Turns header entries into tensors, checking that they tile the `data` bytes after `start`.
fn place(
    file: &Arc<Path>,
    entries: BTreeMap<String, &RawValue>,
    start: u64,
    data: u64,
) -> std::result::Result<Vec<Tensor>, String> {
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let raw: Raw = serde_json::from_str(value.get())
            .map_err(|e| format!("tensor `{name}`: header entry is malformed: {e}"))?;
        let dtype = DType::from_name(&raw.dtype)
            .ok_or_else(|| format!("tensor `{name}` has unknown dtype `{}`", raw.dtype))?;
        let [from, to] = raw.data_offsets;
        let len = to
            .checked_sub(from)
            .ok_or_else(|| format!("tensor `{name}`: offsets [{from}, {to}] run backwards"))?;
        if to > data {
            return Err(format!(
                "tensor `{name}` ends at byte {to} of the data, but the file has only {data}: it \
                 is truncated"
            ));
        }
        let needed = dtype.bytes(&raw.shape);
        if needed != Some(len) {
            return Err(format!(
                "tensor `{name}`: {dtype} {:?} doesn't fit its {len} bytes",
                raw.shape
            ));
        }
        tensors.push(Tensor {
            name,
            file: Arc::clone(file),
            offset: start + from,
            len,
            dtype,
            shape: raw.shape,
        });
    }
    tensors.sort_by_key(|t| (t.offset, t.len));
    let mut end = start;
    for tensor in &tensors {
        if tensor.offset != end {
            let what = if tensor.offset < end {
                "overlaps"
            } else {
                "leaves a hole after"
            };
            return Err(format!(
                "tensor `{}` {what} the tensor before it",
                tensor.name
            ));
        }
        end = tensor.offset + tensor.len;
    }
    if end != start + data {
        return Err(format!(
            "{} bytes after the last tensor belong to none",
            start + data - end
        ));
    }
    Ok(tensors)
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct NewTensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Little-endian, row-major bytes.
    pub data: Cow<'a, [u8]>,
}

impl<'a> NewTensor<'a> {
    /// A tensor of fp32 values.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &'a [f32]) -> Self {
        Self::new(name, DType::F32, shape, little_endian(values))
    }

    /// A tensor of fp16 values.
    pub fn f16(name: impl Into<String>, shape: &[usize], values: &'a [half::f16]) -> Self {
        Self::new(name, DType::F16, shape, little_endian(values))
    }

    /// A tensor of 64-bit integers.
    pub fn i64(name: impl Into<String>, shape: &[usize], values: &'a [i64]) -> Self {
        Self::new(name, DType::I64, shape, little_endian(values))
    }

    /// A tensor of bytes.
    pub fn u8(name: impl Into<String>, shape: &[usize], values: &'a [u8]) -> Self {
        Self::new(name, DType::U8, shape, Cow::Borrowed(values))
    }

    fn new(name: impl Into<String>, dtype: DType, shape: &[usize], data: Cow<'a, [u8]>) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.iter().map(|&d| d as u64).collect(),
            data,
        }
    }
}

/// The bytes of numbers as the format wants them. Every supported machine is little-endian, so
/// they are the bytes in memory.
fn little_endian<T: bytemuck::NoUninit>(values: &[T]) -> Cow<'_, [u8]> {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "big-endian machines are not supported"
        );
    };
    Cow::Borrowed(bytemuck::cast_slice(values))
}

/// Writes a safetensors file, whole or not at all.
///
/// The same contents give the same bytes: tensors are laid out by element type (widest first, as
/// the reference implementation does for alignment), then by name, metadata is sorted by key, and
/// the header is padded with spaces to 8 bytes.
///
/// # Errors
/// [`Error::Length`] if data and shape disagree, [`Error::Malformed`] for two tensors of one name,
/// [`Error::Io`] if the disk refuses.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    tensors: &[NewTensor<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let planned: Vec<Planned> = tensors.iter().map(Planned::of).collect();
    write_planned(path.as_ref(), &planned, metadata, |index| {
        Ok::<_, Error>(&tensors[index].data)
    })
}

/// SHA-256 of what follows the header in a file of these tensors.
pub(crate) fn data_sha256(tensors: &[NewTensor<'_>]) -> String {
    let planned: Vec<Planned> = tensors.iter().map(Planned::of).collect();
    let mut hash = Sha256::new();
    for index in order(&planned) {
        hash.update(&tensors[index].data);
    }
    fsio::hex(&hash.finalize())
}

/// A tensor that is going to be written.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
}

impl Planned {
    fn of(tensor: &NewTensor<'_>) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        }
    }

    /// A tensor of fp32 values.
    pub(super) fn f32(name: String, shape: &[usize]) -> Self {
        Self {
            name,
            dtype: DType::F32,
            shape: shape.iter().map(|&d| d as u64).collect(),
        }
    }

    /// Its name in the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its values; nothing if they overflow.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.dtype.bytes(&self.shape)
    }

    /// A tensor of another's name, type and shape.
    pub(crate) fn like(tensor: &Tensor) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        }
    }

    /// The same in another type.
    pub(crate) fn typed(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }

    fn length_error(&self, found: u64) -> Error {
        Error::Length {
            key: self.name.clone(),
            shape: self.shape.clone(),
            expected: self.bytes().unwrap_or(u64::MAX),
            found,
        }
    }
}

/// The order in which tensors are laid out: widest type first, then by name.
pub(crate) fn order(tensors: &[Planned]) -> Vec<usize> {
    let key = |i: &usize| (std::cmp::Reverse(tensors[*i].dtype), &tensors[*i].name);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    order
}

/// As [`write_safetensors`], with each tensor's bytes asked for when their turn has come in [`order`],
/// by index into `tensors`: a file larger than memory can be written.
pub(crate) fn write_planned<B: AsRef<[u8]>, E: From<Error>>(
    path: &Path,
    tensors: &[Planned],
    metadata: &BTreeMap<String, String>,
    mut data: impl FnMut(usize) -> std::result::Result<B, E>,
) -> std::result::Result<(), E> {
    write_streamed(path, tensors, metadata, |index, sink| {
        let bytes = data(index)?;
        let failed = |source| Error::Io(fsio::at("write", path)(source));
        Ok(sink.write_all(bytes.as_ref()).map_err(failed)?)
    })
}

/// A writer that counts what has passed.
struct Counted<'a> {
    file: &'a mut AtomicFile,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// As [`write_planned`], with each tensor written piece by piece: a tensor larger than memory can
/// be written.
pub(super) fn write_streamed<E: From<Error>>(
    path: &Path,
    tensors: &[Planned],
    metadata: &BTreeMap<String, String>,
    mut write: impl FnMut(usize, &mut dyn Write) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let order = order(tensors);
    let file = AtomicFile::create(path).map_err(Error::Io)?;
    let mut file = begin(file, path, order.iter().map(|&i| &tensors[i]), metadata)?;
    for index in order {
        let mut sink = Counted {
            file: &mut file,
            bytes: 0,
        };
        write(index, &mut sink)?;
        let (planned, found) = (&tensors[index], sink.bytes);
        if planned.bytes() != Some(found) {
            return Err(planned.length_error(found).into());
        }
    }
    Ok(file.commit().map_err(Error::Io)?)
}

/// Starts a file with the header that announces these tensors in this order; their bytes are to
/// follow. `path` is its name in messages.
pub(super) fn begin<'a, W: Write>(
    mut file: W,
    path: &Path,
    tensors: impl Iterator<Item = &'a Planned>,
    metadata: &BTreeMap<String, String>,
) -> Result<W> {
    let header = header_json(path, tensors, metadata)?;
    let announced = file.write_all(&(header.len() as u64).to_le_bytes());
    announced
        .and_then(|()| file.write_all(&header))
        .map_err(fsio::at("write", path))?;
    Ok(file)
}

fn header_json<'a>(
    path: &Path,
    order: impl Iterator<Item = &'a Planned>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut map = serde_json::Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut offset = 0u64;
    for tensor in order {
        let end = tensor.bytes().and_then(|n| offset.checked_add(n));
        let Some(end) = end else {
            return Err(tensor.length_error(0));
        };
        let entry = serde_json::json!({
            "dtype": tensor.dtype.name(),
            "shape": tensor.shape,
            "data_offsets": [offset, end],
        });
        if map.insert(tensor.name.clone(), entry).is_some() {
            return Err(Error::Malformed {
                file: path.to_path_buf(),
                problem: format!("tensor `{}` would be written twice", tensor.name),
            });
        }
        offset = end;
    }
    let mut header = serde_json::Value::Object(map).to_string().into_bytes();
    // Padding keeps the data aligned, so that readers can use it in place.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests;
