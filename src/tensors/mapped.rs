//! Small safetensors files: read through a memory map, written as a stream.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::base::fsio;

/// Why a tensor file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or written.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// Not safetensors, or cut short.
    #[error("{} is not a whole safetensors file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        source: safetensors::SafeTensorError,
    },
    /// A tensor is not there.
    #[error("{} has no tensor `{name}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another type or shape than it must have.
    #[error("{}: `{name}` is {found}, expected {expected}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What was expected.
        expected: String,
        /// Its type and shape.
        found: String,
    },
}

/// A memory-mapped safetensors file of float32 tensors.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    data: usize,
    index: Metadata,
}

impl TensorFile {
    /// Maps `path` and checks its header: offsets must cover the file exactly.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = map(path)?;
        let (header, index) = SafeTensors::read_metadata(&map).map_err(|source| Error::Format {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            data: header + size_of::<u64>(),
            map,
            index,
        })
    }

    /// The shape of a tensor, when it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.index.info(name).map(|info| info.shape.as_slice())
    }

    /// A float32 tensor's shape and values.
    pub fn f32(&self, name: &str) -> Result<(&[usize], &[f32]), Error> {
        let info = self.index.info(name).ok_or_else(|| Error::Missing {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data + start..self.data + end];
        let values = (info.dtype == Dtype::F32)
            .then(|| bytemuck::try_cast_slice(bytes).ok())
            .flatten();
        match values {
            Some(values) => Ok((&info.shape, values)),
            None => Err(self.mismatch(name, "aligned F32".to_owned())),
        }
    }

    /// The error that a tensor is not what it must be.
    pub fn mismatch(&self, name: &str, expected: String) -> Error {
        let found = self.index.info(name).map_or_else(
            || "absent".to_owned(),
            |info| format!("{:?} {:?}", info.dtype, info.shape),
        );
        Error::Mismatch {
            path: self.path.clone(),
            name: name.to_owned(),
            expected,
            found,
        }
    }
}

#[expect(unsafe_code, reason = "a memory map")]
fn map(path: &Path) -> Result<Mmap, fsio::Error> {
    let open = || {
        let file = File::open(path)?;
        // SAFETY: files of a data set are only ever replaced by renaming a new file over them
        // (see `fsio`), which leaves the mapped one as it was; nobody writes into it.
        unsafe { Mmap::map(&file) }
    };
    open().map_err(fsio::at("read", path))
}

/// A safetensors file of float32 tensors being written in order, without holding them in memory.
pub struct TensorWriter {
    path: PathBuf,
    file: fsio::AtomicFile,
    left: std::vec::IntoIter<(String, Vec<usize>)>,
}

impl TensorWriter {
    /// Starts `path` with the tensors that will follow, in that order.
    pub fn create(path: &Path, tensors: Vec<(String, Vec<usize>)>) -> Result<Self, fsio::Error> {
        let mut header = serde_json::Map::new();
        let mut offset = 0usize;
        for (name, shape) in &tensors {
            let end = offset + shape.iter().product::<usize>() * size_of::<f32>();
            let entry =
                serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
            header.insert(name.clone(), entry);
            offset = end;
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // Padding keeps the data aligned, so that readers can use it in place.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut writer = Self {
            path: path.to_path_buf(),
            file: fsio::AtomicFile::create(path)?,
            left: tensors.into_iter(),
        };
        writer.bytes(&(header.len() as u64).to_le_bytes())?;
        writer.bytes(&header)?;
        Ok(writer)
    }

    /// Writes the next tensor.
    ///
    /// # Panics
    /// If `name` is not the next tensor announced, or its length is another.
    pub fn push(&mut self, name: &str, values: &[f32]) -> Result<(), fsio::Error> {
        let (expected, shape) = self.left.next().expect("a tensor too many");
        assert_eq!(expected, name, "tensors are written in the announced order");
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        self.bytes(bytemuck::cast_slice(values))
    }

    /// Puts the file under its name.
    ///
    /// # Panics
    /// If announced tensors are missing.
    pub fn commit(self) -> Result<(), fsio::Error> {
        assert_eq!(self.left.len(), 0, "tensors are missing");
        self.file.commit()
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), fsio::Error> {
        self.file
            .write_all(bytes)
            .map_err(fsio::at("write", &self.path))
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
        let mut writer = TensorWriter::create(&path, tensors).unwrap();
        writer.push("b", &[1., 2., 3., 4., 5., 6.]).unwrap();
        writer.push("a", &[7.]).unwrap();
        writer.commit().unwrap();

        let file = TensorFile::open(&path).unwrap();
        assert_eq!(
            file.f32("b").unwrap(),
            (&[2, 3][..], &[1., 2., 3., 4., 5., 6.][..])
        );
        assert_eq!(file.f32("a").unwrap().1, [7.]);
        assert!(matches!(file.f32("c"), Err(Error::Missing { .. })));

        let whole = fsio::read(&path).unwrap();
        for keep in [0, 7, 40, whole.len() - 1] {
            let cut = dir.path().join("cut.safetensors");
            fsio::write(&cut, &whole[..keep]).unwrap();
            let error = TensorFile::open(&cut).unwrap_err();
            assert!(error.to_string().contains("cut.safetensors"), "{error}");
        }
    }
}
