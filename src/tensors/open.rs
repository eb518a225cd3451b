//! Finding the weight files of one network.
//!
//! diffusers and transformers name the same thing in many ways: one file or shards with an index,
//! plain or `.fp16` variants, `model` or `diffusion_pytorch_model`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::weights::{Entry, insert};
use super::{Error, Result, Weights, safetensors, torch};
use crate::base::fsio;

/// Base names without extension, in order of preference.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// Base names of torch's `.bin` files, which are taken where there is no safetensors file.
const TORCH_STEMS: [&str; 2] = ["diffusion_pytorch_model", "pytorch_model"];
/// The variant taken where there are only variants.
const FALLBACK: &str = "fp16";

/// The part of a shard index that matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Where the weights of a network folder are, by name within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// All in one file.
    File(String),
    /// In the shards that an index names.
    Index(String),
}

/// Which of a folder's files hold the weights: safetensors rather than torch's, full precision
/// rather than `.fp16` unless a variant is named.
pub(crate) fn choose(variant: Option<&str>, has: impl Fn(&str) -> bool) -> Option<Chosen> {
    let variants: &[Option<&str>] = match variant {
        None => &[None, Some(FALLBACK)],
        chosen => &[chosen],
    };
    for (stems, extension) in [(STEMS, "safetensors"), (TORCH_STEMS, "bin")] {
        for variant in variants {
            let dotted = variant.map_or_else(String::new, |v| format!(".{v}"));
            for stem in stems {
                let single = format!("{stem}{dotted}.{extension}");
                if has(&single) {
                    return Some(Chosen::File(single));
                }
                // `a.fp16.safetensors.index.json` in some, `a.safetensors.index.fp16.json` in most.
                let indices = [
                    format!("{stem}{dotted}.{extension}.index.json"),
                    format!("{stem}.{extension}.index{dotted}.json"),
                ];
                if let Some(index) = indices.into_iter().find(|name| has(name)) {
                    return Some(Chosen::Index(index));
                }
            }
        }
    }
    None
}

/// What an `*.index.json` says: the shard of every tensor. A shard is a plain name: an index from
/// elsewhere must not point outside its folder.
pub(crate) fn weight_map(path: &Path) -> Result<BTreeMap<String, String>> {
    let malformed = |problem: String| Error::Malformed {
        file: path.to_path_buf(),
        problem,
    };
    let text = fsio::read_to_string(path)?;
    let index: Index =
        serde_json::from_str(&text).map_err(|e| malformed(format!("not a shard index: {e}")))?;
    for shard in index.weight_map.values() {
        if Path::new(shard).file_name() != Some(shard.as_ref()) {
            return Err(malformed(format!(
                "shard `{shard}` is not a plain file name"
            )));
        }
    }
    Ok(index.weight_map)
}

/// The shards that a weight map names, each once.
pub(crate) fn shards(map: &BTreeMap<String, String>) -> Vec<&str> {
    let shards: std::collections::BTreeSet<&str> = map.values().map(String::as_str).collect();
    shards.into_iter().collect()
}

impl Weights {
    /// Opens the weights of one network folder (`unet/`, `text_encoder/` …), whichever of the
    /// usual names they have: one file or shards with an index, full precision rather than
    /// `.fp16` variants.
    ///
    /// # Errors
    /// [`Error::NoWeights`] if there is none, and those of [`Weights::open_files`].
    pub fn open_dir(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_variant(dir, None)
    }

    /// As [`Weights::open_dir`], but only the files of a variant (`fp16`), if one is named.
    ///
    /// # Errors
    /// [`Error::NoVariant`] if there is none of that variant, and those of [`Weights::open_dir`].
    pub fn open_variant(dir: impl AsRef<Path>, variant: Option<&str>) -> Result<Self> {
        let dir = dir.as_ref();
        match choose(variant, |name| dir.join(name).is_file()) {
            Some(Chosen::File(name)) => return Self::open_files([dir.join(name)]),
            Some(Chosen::Index(name)) => return Self::open_index(&dir.join(name)),
            None => {}
        }
        if let Some(variant) = variant {
            return Err(Error::NoVariant {
                dir: dir.to_path_buf(),
                variant: variant.to_owned(),
            });
        }
        match only_safetensors(dir)? {
            Some(file) => Self::open_files([file]),
            None => Err(Error::NoWeights {
                dir: dir.to_path_buf(),
            }),
        }
    }

    /// Opens safetensors files, or torch's `.bin`, `.pth` and `.ckpt`, that together hold one network.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a truncated file or a header that contradicts itself,
    /// [`Error::Pickle`] for a torch file that does more than hold tensors,
    /// [`Error::Duplicate`] for a name in two files.
    pub fn open_files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors: BTreeMap<String, Entry> = BTreeMap::new();
        for path in paths {
            let file: Arc<Path> = path.as_ref().into();
            let found = match torch::is_torch(&file) {
                true => torch::read_tensors(&file)?,
                false => safetensors::read_header(&file)?.tensors,
            };
            for tensor in found {
                insert(&mut tensors, tensor)?;
            }
            files.push(file);
        }
        Ok(Self { files, tensors })
    }

    /// Takes the tensors of another file in place of those of the same names.
    ///
    /// # Errors
    /// Those of [`Weights::open_files`].
    pub(crate) fn replace(&mut self, path: &Path) -> Result<()> {
        let other = Self::open_files([path])?;
        self.files.extend(other.files);
        self.tensors.extend(other.tensors);
        Ok(())
    }

    /// Opens the shards that an `*.index.json` names, and checks that each has what it should.
    fn open_index(path: &Path) -> Result<Self> {
        let malformed = |problem: String| Error::Malformed {
            file: path.to_path_buf(),
            problem,
        };
        let map = weight_map(path)?;
        let shards = shards(&map);
        let dir = path.parent().unwrap_or(Path::new("."));
        for shard in &shards {
            if !dir.join(shard).is_file() {
                return Err(malformed(format!("shard `{shard}` is missing")));
            }
        }
        let weights = Self::open_files(shards.iter().map(|s| dir.join(s)))?;
        for (key, shard) in &map {
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

/// The one safetensors file of a folder that names it unusually; none if there are several.
fn only_safetensors(dir: &Path) -> Result<Option<PathBuf>> {
    let failed = fsio::at("read", dir);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}
