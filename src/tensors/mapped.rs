//! Small safetensors files: read through a memory map, written as a stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::safetensors::{Planned, begin, header_of};
use super::{DType, Error, Result, Tensor};
use crate::base::fsio;

/// A memory-mapped safetensors file of float32 tensors.
#[derive(Debug)]
pub struct TensorFile {
    path: Arc<Path>,
    map: Mmap,
    index: BTreeMap<String, Place>,
}

/// Where a tensor lies in the map.
#[derive(Debug)]
struct Place {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl From<&Tensor> for Place {
    fn from(tensor: &Tensor) -> Self {
        // What lies in a map has offsets and dimensions that memory has room for.
        let start = tensor.offset as usize;
        Self {
            dtype: tensor.dtype,
            shape: tensor.shape.iter().map(|&d| d as usize).collect(),
            bytes: start..start + tensor.len as usize,
        }
    }
}

impl TensorFile {
    /// Maps `path` and checks its header: offsets must cover the file exactly.
    ///
    /// # Errors
    /// [`Error::NotWhole`]; [`Error::Io`] if the file can't be read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(fsio::at("read", path))?;
        Self::of(&file, path)
    }

    /// The same of an open file, that messages call `path`.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        let map = map(file).map_err(fsio::at("read", path))?;
        let path = Arc::from(path);
        let header = header_of(&path, &mut &map[..], map.len() as u64).map_err(|source| {
            Error::NotWhole {
                file: path.to_path_buf(),
                source: Box::new(source),
            }
        })?;
        let place = |tensor: Tensor| (tensor.name.clone(), Place::from(&tensor));
        Ok(Self {
            index: header.tensors.into_iter().map(place).collect(),
            path,
            map,
        })
    }

    /// The shape of a tensor, when it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.index.get(name).map(|place| place.shape.as_slice())
    }

    /// A float32 tensor's shape and values.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Unexpected`].
    pub fn f32(&self, name: &str) -> Result<(&[usize], &[f32])> {
        let place = self.index.get(name).ok_or_else(|| Error::Absent {
            file: self.path.to_path_buf(),
            key: name.to_owned(),
        })?;
        let bytes = &self.map[place.bytes.clone()];
        let values = (place.dtype == DType::F32)
            .then(|| bytemuck::try_cast_slice(bytes).ok())
            .flatten();
        match values {
            Some(values) => Ok((&place.shape, values)),
            None => Err(self.mismatch(name, "aligned F32")),
        }
    }

    /// The error that a tensor is not what it must be.
    pub fn mismatch(&self, name: &str, expected: &str) -> Error {
        let found = self.index.get(name).map_or_else(
            || "absent".to_owned(),
            |place| format!("{} {:?}", place.dtype, place.shape),
        );
        Error::Unexpected {
            file: self.path.to_path_buf(),
            key: name.to_owned(),
            problem: format!("{found}, expected {expected}"),
        }
    }
}

#[expect(unsafe_code, reason = "a memory map")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: files of a data set are only ever replaced by renaming a new file over them
    // (see `fsio`), which leaves the mapped one as it was; nobody writes into it. One that was fetched
    // from a store has no name by which anybody could.
    unsafe { Mmap::map(file) }
}

/// The shapes of the tensors of a safetensors file, of which only the header is read: `bytes` are its bytes
/// from the first, `size` is their number, `path` its name in messages.
///
/// # Errors
/// As [`TensorFile::open`].
pub fn shapes(path: &Path, bytes: &mut dyn Read, size: u64) -> Result<BTreeMap<String, Vec<u64>>> {
    let header = header_of(&path.into(), bytes, size)?;
    let shape = |tensor: Tensor| (tensor.name, tensor.shape);
    Ok(header.tensors.into_iter().map(shape).collect())
}

/// A safetensors file of float32 tensors being written in order, without holding them in memory.
pub struct TensorWriter<W> {
    path: PathBuf,
    file: W,
    left: std::vec::IntoIter<Planned>,
}

impl<W: Write> TensorWriter<W> {
    /// Starts a file with the tensors that will follow, in that order; messages call it `path`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for two tensors of one name, [`Error::Io`] if the disk refuses.
    pub fn new(file: W, path: &Path, tensors: Vec<(String, Vec<usize>)>) -> Result<Self> {
        let planned = |(name, shape): (String, Vec<usize>)| Planned::f32(name, &shape);
        let tensors: Vec<Planned> = tensors.into_iter().map(planned).collect();
        Ok(Self {
            path: path.to_path_buf(),
            file: begin(file, path, tensors.iter(), &BTreeMap::new())?,
            left: tensors.into_iter(),
        })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk refuses.
    ///
    /// # Panics
    /// If `name` is not the next tensor announced, or its length is another.
    pub fn push(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let next = self.left.next().expect("a tensor too many");
        let expected = next.name();
        assert_eq!(expected, name, "tensors are written in the announced order");
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert_eq!(next.bytes(), Some(bytes.len() as u64), "{name}");
        let failed = fsio::at("write", &self.path);
        Ok(self.file.write_all(bytes).map_err(failed)?)
    }

    /// The file, with all its tensors: it is still to be put under its name.
    ///
    /// # Panics
    /// If announced tensors are missing.
    pub fn end(self) -> W {
        assert_eq!(self.left.len(), 0, "tensors are missing");
        self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_cut_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        let tensors = vec![("b".to_owned(), vec![2, 3]), ("a".to_owned(), vec![1])];
        let file = fsio::AtomicFile::create(&path).unwrap();
        let mut writer = TensorWriter::new(file, &path, tensors).unwrap();
        writer.push("b", &[1., 2., 3., 4., 5., 6.]).unwrap();
        writer.push("a", &[7.]).unwrap();
        writer.end().commit().unwrap();

        let file = TensorFile::open(&path).unwrap();
        assert_eq!(
            file.f32("b").unwrap(),
            (&[2, 3][..], &[1., 2., 3., 4., 5., 6.][..])
        );
        assert_eq!(file.f32("a").unwrap().1, [7.]);
        assert!(matches!(file.f32("c"), Err(Error::Absent { .. })));

        let whole = fsio::read(&path).unwrap();
        let found = shapes(&path, &mut &whole[..], whole.len() as u64).unwrap();
        assert_eq!(found["b"], [2, 3]);
        for keep in [0, 7, 40, whole.len() - 1] {
            let cut = dir.path().join("cut.safetensors");
            fsio::write(&cut, &whole[..keep]).unwrap();
            let error = TensorFile::open(&cut).unwrap_err();
            assert!(error.to_string().contains("cut.safetensors"), "{error}");
        }
    }
}
