//! A tensor as a place in a file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{DType, Error, Result};
use crate::base::fsio;

/// Where a tensor lies: nothing of it is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its full dotted name in the file.
    pub name: String,
    /// The file it is in.
    pub file: Arc<Path>,
    /// Byte offset of its first element from the start of the file.
    pub offset: u64,
    /// Bytes it takes.
    pub len: u64,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The same bytes under another name.
    pub fn renamed(&self, name: String) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    /// Part `index` of `count` equal parts of its rows (its first axis), which lie together in the
    /// file; nothing if the rows can't be divided so.
    pub fn rows(&self, index: u64, count: u64) -> Option<Self> {
        let (&rows, rest) = self.shape.split_first()?;
        if count == 0 || index >= count || !rows.is_multiple_of(count) {
            return None;
        }
        let len = self.len / count;
        let shape = std::iter::once(rows / count).chain(rest.iter().copied());
        Some(Self {
            offset: self.offset + index * len,
            len,
            shape: shape.collect(),
            ..self.clone()
        })
    }

    /// Reads its bytes as they are stored (little-endian, row-major).
    pub fn read_bytes(&self) -> Result<Vec<u8>> {
        self.read_as()
    }

    /// Reads its elements as what they are stored as.
    pub(crate) fn read_as<T: bytemuck::Pod>(&self) -> Result<Vec<T>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut values = vec![T::zeroed(); self.len as usize / size_of::<T>()];
        File::open(&self.file)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.offset))?;
                file.read_exact(bytemuck::cast_slice_mut(&mut values))
            })
            .map_err(fsio::at("read", &self.file))?;
        Ok(values)
    }

    /// Reads its values, widened or rounded to fp32. Integer tensors are an error.
    pub fn read_f32(&self) -> Result<Vec<f32>> {
        self.decode(&self.read_bytes()?)
    }

    /// Reads its one number, of an integer type too: torch stores a Python `int` as int64.
    pub(crate) fn read_number(&self) -> Result<f32> {
        let bytes = self.read_bytes()?;
        // Two's complement, widened by its sign.
        let signed = || {
            let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(&bytes);
            i64::from_le_bytes(wide) as f32
        };
        match self.dtype {
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => Ok(signed()),
            DType::U8 => Ok(bytes[0].into()),
            _ => Ok(self.decode(&bytes)?[0]),
        }
    }

    /// Bytes of its type as fp32.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        use bytemuck::pod_collect_to_vec as collect;
        use half::slice::HalfFloatSliceExt;
        Ok(match self.dtype {
            DType::F32 => collect(bytes),
            DType::F16 => collect::<_, half::f16>(bytes).to_f32_vec(),
            DType::BF16 => collect::<_, half::bf16>(bytes).to_f32_vec(),
            DType::F64 => collect::<_, f64>(bytes).iter().map(|&v| v as f32).collect(),
            _ => return Err(self.not_float()),
        })
    }

    pub(crate) fn not_float(&self) -> Error {
        Error::NotFloat {
            key: self.name.clone(),
            file: self.file.to_path_buf(),
            dtype: self.dtype,
        }
    }
}

/// Reads a tensor's values as fp32; see [`Tensor::read_f32`].
pub fn read_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.read_f32()
}
