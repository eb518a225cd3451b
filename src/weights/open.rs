//! Finding the weight files of one network.
//!
//! diffusers and transformers name the same thing in many ways: one file or shards with an index,
//! plain or `.fp16` variants, `model` or `diffusion_pytorch_model`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Entry, Error, Result, Tensor, Weights, safetensors};

/// Base names without extension, in order of preference; full precision before variants.
const STEMS: [&str; 4] = [
    "diffusion_pytorch_model",
    "model",
    "diffusion_pytorch_model.fp16",
    "model.fp16",
];

/// The part of a shard index that matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens the weights of one network folder (`unet/`, `text_encoder/` …), whichever of the
    /// usual names they have: one file, shards with an index, `.fp16` variants.
    ///
    /// # Errors
    /// [`Error::NoWeights`] if there is none, and those of [`Weights::open_files`].
    pub fn open_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        for stem in STEMS {
            let single = dir.join(format!("{stem}.safetensors"));
            if single.is_file() {
                return Self::open_files([single]);
            }
            // `a.fp16.safetensors.index.json` today, `a.safetensors.index.fp16.json` in older
            // diffusers.
            let mut indexes = vec![format!("{stem}.safetensors.index.json")];
            if let Some((base, variant)) = stem.split_once('.') {
                indexes.push(format!("{base}.safetensors.index.{variant}.json"));
            }
            for name in indexes {
                let index = dir.join(name);
                if index.is_file() {
                    return Self::open_index(&index);
                }
            }
        }
        match only_safetensors(dir)? {
            Some(file) => Self::open_files([file]),
            None => Err(Error::NoWeights {
                dir: dir.to_path_buf(),
            }),
        }
    }

    /// Opens safetensors files that together hold one network.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a truncated file or a header that contradicts itself,
    /// [`Error::Duplicate`] for a name in two files.
    pub fn open_files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors: BTreeMap<String, Entry> = BTreeMap::new();
        for path in paths {
            let file: Arc<Path> = path.as_ref().into();
            for tensor in safetensors::read_header(&file)?.tensors {
                if let Some(first) = tensors.get(&tensor.name) {
                    return Err(Error::Duplicate {
                        key: tensor.name,
                        first: first.tensor.file.to_path_buf(),
                        second: file.to_path_buf(),
                    });
                }
                tensors.insert(tensor.name.clone(), tensor.into());
            }
            files.push(file);
        }
        Ok(Self { files, tensors })
    }

    /// Opens the shards that an `*.index.json` names, and checks that each has what it should.
    fn open_index(path: &Path) -> Result<Self> {
        let malformed = |problem: String| Error::Malformed {
            file: path.to_path_buf(),
            problem,
        };
        let text = crate::fsio::read_to_string(path)?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|e| malformed(format!("not a shard index: {e}")))?;
        let mut shards: Vec<&str> = index.weight_map.values().map(String::as_str).collect();
        shards.sort_unstable();
        shards.dedup();
        let dir = path.parent().unwrap_or(Path::new("."));
        for shard in &shards {
            // A shard is a plain name: an index from elsewhere must not point outside its folder.
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return Err(malformed(format!(
                    "shard `{shard}` is not a plain file name"
                )));
            }
            if !dir.join(shard).is_file() {
                return Err(malformed(format!("shard `{shard}` is missing")));
            }
        }
        let weights = Self::open_files(shards.iter().map(|s| dir.join(s)))?;
        for (key, shard) in &index.weight_map {
            let there = weights.tensors.get(key).map(|e| e.tensor.file.as_ref());
            if there != Some(dir.join(shard).as_path()) {
                return Err(malformed(format!(
                    "tensor `{key}` is not in shard `{shard}`"
                )));
            }
        }
        Ok(weights)
    }
}

impl From<Tensor> for Entry {
    fn from(tensor: Tensor) -> Self {
        Entry {
            tensor,
            used: false.into(),
        }
    }
}

/// The one safetensors file of a folder that names it unusually; none if there are several.
fn only_safetensors(dir: &Path) -> Result<Option<PathBuf>> {
    let failed = |source| crate::fsio::Error {
        action: "read",
        path: dir.to_path_buf(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}
