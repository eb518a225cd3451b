//! torch's `.pth`, `.bin` and `.ckpt` files, read without executing anything in them.
//!
//! Since torch 1.6 these are zip files: `NAME/data.pkl` is a pickle that describes the tensors, and
//! `NAME/data/KEY` holds the bytes of one storage each, stored without compression. So tensors can
//! be pointed at in the file like those of safetensors. A pickle is a program; [`pickle`] runs only
//! what describes tensors, and refuses by name a state dict that needs anything else. A module that
//! TorchScript saved (OpenAI's CLIP) is the same with objects in place of dictionaries.

mod code;
mod pickle;
mod zip;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::{Error, Result, Tensor};
use crate::base::fsio;
use code::Problem;
use pickle::TensorInfo;

/// Longest pickle that is read: a state dict of thousands of tensors takes less than a megabyte.
const MAX_PICKLE: u64 = 16 << 20;
/// What a zip file begins with.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Whether a file is one of torch's, by its beginning or its name.
pub(crate) fn is_torch(path: &Path) -> bool {
    is_zip(path) || is_named_so(path)
}

/// Whether a file begins as torch's do.
fn is_zip(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == ZIP
}

/// Whether a file's name is one that torch's files have.
fn is_named_so(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| ["bin", "ckpt", "pt", "pth"].contains(&e))
}

/// The tensors of a file: of its state dict, where it holds one beside other things.
///
/// # Errors
/// [`Error::Malformed`] for what is no such file or contradicts itself, [`Error::Pickle`] for a
/// pickle that would do more than describe tensors.
pub(super) fn read_tensors(path: &Arc<Path>) -> Result<Vec<Tensor>> {
    let malformed = |problem: String| Error::Malformed {
        file: path.to_path_buf(),
        problem,
    };
    if !is_zip(path) {
        return Err(malformed(
            "not a zip file, as torch has written since version 1.6; save it again with a newer \
             torch, or as safetensors"
                .into(),
        ));
    }
    let failed = fsio::at("read", path);
    let mut file = File::open(path).map_err(failed)?;
    let entries = zip::entries(&mut file).map_err(|e| match e {
        zip::Problem::Io(source) => failed(source).into(),
        zip::Problem::Format(problem) => malformed(problem),
    })?;
    let Some((root, pickle)) = entries.iter().find_map(|(name, entry)| {
        let root = name.strip_suffix("/data.pkl")?;
        (!root.contains('/')).then_some((root, *entry))
    }) else {
        return Err(malformed(
            "a zip file without data.pkl: torch did not write it".into(),
        ));
    };
    stored("data.pkl", pickle).map_err(malformed)?;
    if pickle.length > MAX_PICKLE {
        let length = pickle.length;
        return Err(malformed(format!(
            "its data.pkl has {length} bytes (at most {MAX_PICKLE})"
        )));
    }
    let mut take = |entry: zip::Entry| -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.length as usize];
        file.seek(SeekFrom::Start(entry.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(failed)?;
        Ok(bytes)
    };
    if let Some(&order) = entries.get(&format!("{root}/byteorder"))
        && (order.length > 16 || take(order)?.as_slice() != b"little")
    {
        return Err(malformed("its byte order is not little".into()));
    }
    let found = pickle::tensors(&take(pickle)?).map_err(|problem| match problem {
        Problem::Global(global) => Error::Pickle {
            file: path.to_path_buf(),
            global,
        },
        Problem::Format(problem) => malformed(format!("data.pkl: {problem}")),
    })?;
    found
        .into_iter()
        .map(|(name, info)| {
            let storage = entries.get(&format!("{root}/data/{}", info.storage));
            place(path, name, &info, storage.copied()).map_err(malformed)
        })
        .collect()
}

/// Refuses an entry whose bytes can't be pointed at.
fn stored(name: &str, entry: zip::Entry) -> std::result::Result<(), String> {
    match entry.stored {
        true => Ok(()),
        false => Err(format!(
            "zip: entry {name} is compressed or encrypted; torch stores its entries"
        )),
    }
}

/// Where a tensor lies in the file, after checking that it lies within its storage.
fn place(
    file: &Arc<Path>,
    name: String,
    info: &TensorInfo,
    storage: Option<zip::Entry>,
) -> std::result::Result<Tensor, String> {
    let Some(storage) = storage else {
        return Err(format!(
            "tensor `{name}`: storage {} is missing",
            info.storage
        ));
    };
    stored(&format!("data/{}", info.storage), storage)?;
    let size = info.dtype.size();
    let elements = info
        .shape
        .iter()
        .try_fold(1_u64, |n, &dim| n.checked_mul(dim));
    let range = elements.and_then(|n| {
        let offset = info.offset.checked_mul(size)?;
        let len = n.checked_mul(size)?;
        (offset.checked_add(len)? <= storage.length).then_some((offset, len))
    });
    let Some((offset, len)) = range else {
        return Err(format!(
            "tensor `{name}` {:?} does not fit its storage of {} bytes",
            info.shape, storage.length
        ));
    };
    // Row-major, but for axes of length 1, whose stride means nothing.
    let mut expected = 1;
    for (&dim, &stride) in info.shape.iter().zip(&info.strides).rev() {
        if dim != 1 && stride != expected && elements != Some(0) {
            return Err(format!(
                "tensor `{name}` is stored with strides {:?}, expected it contiguous",
                info.strides
            ));
        }
        expected = expected.saturating_mul(dim);
    }
    Ok(Tensor {
        name,
        file: Arc::clone(file),
        offset: storage.offset + offset,
        len,
        dtype: info.dtype,
        shape: info.shape.clone(),
    })
}
