//! Writing a network's weights in another type.
//!
//! A graph casts weights that are stored otherwise than it computes, and the runtime folds the cast
//! at load: at each load. Converting them once costs disk instead. Tensors are streamed, so that
//! memory does not grow with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::{bf16, f16};

use super::safetensors::{Planned, write_streamed};
use super::stored::Stored;
use super::{DType, Error, Result, Tensor, Weights};
use crate::fsio;

/// Elements converted at a time.
const BLOCK: usize = 1 << 18;

impl Weights {
    /// Writes all floating-point tensors of another type than `dtype` (F32, F16 or BF16) to `path`,
    /// converted, and points there. Files that no tensor of this network is read from any more are
    /// let go. Returns how many tensors were converted; no file is written if none is.
    ///
    /// # Errors
    /// [`Error::Range`] for a number that `dtype` can't hold, and what the disk refuses.
    pub fn convert(&mut self, dtype: DType, path: &Path) -> Result<usize> {
        let other = |t: &&Tensor| t.dtype != dtype && t.dtype.is_float();
        let tensors: Vec<Tensor> = self.iter().filter(other).cloned().collect();
        if tensors.is_empty() {
            return Ok(0);
        }
        let planned: Vec<Planned> = tensors
            .iter()
            .map(|t| Planned::like(t).typed(dtype))
            .collect();
        write_streamed(path, &planned, &BTreeMap::new(), |index, sink| {
            copy(&tensors[index], dtype, sink, path)
        })?;
        self.replace(path)?;
        self.let_go();
        Ok(tensors.len())
    }
}

/// Writes a tensor's values to `sink` as `dtype`, a block at a time.
fn copy(tensor: &Tensor, dtype: DType, sink: &mut dyn Write, path: &Path) -> Result<()> {
    let failed = fsio::at("read", &tensor.file);
    let mut file = File::open(&tensor.file).map_err(failed)?;
    file.seek(SeekFrom::Start(tensor.offset)).map_err(failed)?;
    let size = tensor.dtype.size();
    let mut left = tensor.len / size;
    let mut bytes = Vec::new();
    while left > 0 {
        let count = left.min(BLOCK as u64);
        bytes.resize((count * size) as usize, 0);
        file.read_exact(&mut bytes).map_err(failed)?;
        let values = tensor.decode(&bytes)?;
        let converted = encode(&values, dtype).ok_or_else(|| range(tensor, dtype, &values))?;
        sink.write_all(&converted)
            .map_err(fsio::at("write", path))?;
        left -= count;
    }
    Ok(())
}

/// Values as little-endian bytes of a type; nothing if a finite one leaves its range.
fn encode(values: &[f32], dtype: DType) -> Option<Vec<u8>> {
    match dtype {
        DType::F16 => stored::<f16>(values),
        DType::BF16 => stored::<bf16>(values),
        _ => stored::<f32>(values),
    }
}

fn stored<T: Stored>(values: &[f32]) -> Option<Vec<u8>> {
    let fit = values.iter().all(|v| !v.is_finite() || v.abs() < T::LIMIT);
    let mut elements = vec![T::zeroed(); values.len()];
    T::store(values, &mut elements);
    fit.then(|| bytemuck::cast_slice(&elements).to_vec())
}

fn range(tensor: &Tensor, dtype: DType, values: &[f32]) -> Error {
    let largest = values
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0_f32, |most, v| match v.abs() > most.abs() {
            true => *v,
            false => most,
        });
    Error::Range {
        key: tensor.name.clone(),
        file: tensor.file.to_path_buf(),
        value: largest,
        dtype,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{NewTensor, write_safetensors};

    fn stored(values: &[f32]) -> (tempfile::TempDir, Weights) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let ids = [1_i64, 2];
        let halves = [f16::from_f32(0.5); 3];
        let tensors = [
            NewTensor::f32("a", &[values.len()], values),
            NewTensor::f16("b", &[3], &halves),
            NewTensor::i64("position_ids", &[2], &ids),
        ];
        write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
        let weights = Weights::open_files([path]).unwrap();
        (dir, weights)
    }

    #[test]
    fn numbers_of_another_type_are_rounded_once_across_blocks() {
        let values: Vec<f32> = (0..BLOCK + 5).map(|i| i as f32 * 0.01).collect();
        let (dir, mut weights) = stored(&values);
        let path = dir.path().join("half.safetensors");
        assert_eq!(weights.convert(DType::F16, &path).unwrap(), 1);
        let a = weights.tensor("a").unwrap();
        assert_eq!((a.dtype, a.file.as_ref()), (DType::F16, path.as_path()));
        let expected: Vec<f32> = values.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
        assert!(a.read_f32().unwrap() == expected);
        // `b` was half already: its file stays.
        assert_eq!(weights.files().len(), 2);
        assert_eq!(weights.convert(DType::F16, &path).unwrap(), 0);
    }

    #[test]
    fn a_file_that_nothing_is_read_from_is_let_go() {
        let (dir, mut weights) = stored(&[1.0, 2.0]);
        let path = dir.path().join("wide.safetensors");
        assert_eq!(weights.convert(DType::BF16, &path).unwrap(), 2);
        assert_eq!(weights.files().len(), 1);
        assert_eq!(weights.tensor("b").unwrap().read_f32().unwrap(), [0.5; 3]);
        assert_eq!(weights.parameters(), 5);
    }

    #[test]
    fn a_number_beyond_the_type_is_named() {
        let (dir, mut weights) = stored(&[1.0, -70000.0]);
        let path = dir.path().join("half.safetensors");
        let error = weights.convert(DType::F16, &path).unwrap_err();
        assert!(
            matches!(&error, Error::Range { key, value, .. } if key == "a" && *value == -70000.0),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("bf16"));
        assert!(!path.exists(), "half a file was left");
    }
}
