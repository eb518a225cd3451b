//! Checkpoints as they come: what a folder in diffusers' layout holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Error, Options, Part, Result};
use crate::fsio;

/// Files that go into the bundle as they are, where the checkpoint has them.
const FILES: [&str; 7] = [
    "model_index.json",
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "axes.toml",
    "chain.toml",
    "reference.safetensors",
];
/// Folders whose files go into the bundle as they are.
const FOLDERS: [&str; 5] = [
    "tokenizer",
    "tokenizer_2",
    "scheduler",
    "feature_extractor",
    "prompts",
];
/// Files beside a network's weights that belong to it.
const NETWORK_FILES: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// A folder in diffusers' layout.
#[derive(Debug)]
pub(super) struct Source {
    /// The folder, absolute and without symbolic links.
    pub(super) dir: PathBuf,
    /// What `model_index.json` says, if there is one.
    index: Option<serde_json::Value>,
}

impl Source {
    /// Opens the folder at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let not_yet = |what: String| Error::NotYet { what };
        if path.is_file() {
            return Err(not_yet(format!(
                "single-file checkpoints such as {}; give a folder in diffusers' layout",
                path.display()
            )));
        }
        if !path.exists() {
            let parts: Vec<_> = path.components().collect();
            if path.is_relative() && parts.len() == 2 {
                return Err(not_yet(format!(
                    "there is no folder {0}, and hub ids can't be fetched by pa-export; download \
                     it with `hf download {0} --local-dir DIR` and give DIR",
                    path.display()
                )));
            }
            return Err(Error::NoSource {
                path: path.to_path_buf(),
            });
        }
        let dir = path.canonicalize().map_err(|source| fsio::Error {
            action: "open",
            path: path.to_path_buf(),
            source,
        })?;
        let index_path = dir.join("model_index.json");
        let index = match index_path.is_file() {
            true => Some(json(&index_path)?),
            false => None,
        };
        let source = Self { dir, index };
        if source.index.is_none() && source.available().is_empty() {
            let folders: BTreeSet<_> = Part::ALL.iter().map(|p| p.source_folder()).collect();
            return Err(Error::NotDiffusers {
                path: path.to_path_buf(),
                folders: folders.into_iter().collect(),
            });
        }
        Ok(source)
    }

    /// The pipeline's class.
    pub(super) fn pipeline(&self) -> Option<String> {
        let class = self.index.as_ref()?.get("_class_name")?;
        Some(class.as_str()?.to_owned())
    }

    /// Number of `time_ids`: SDXL's refiner has an aesthetic score instead of the target size.
    pub(super) fn time_ids(&self) -> u64 {
        let key = "requires_aesthetics_score";
        let refiner = self.index.as_ref().and_then(|i| i.get(key)?.as_bool());
        if refiner == Some(true) { 5 } else { 6 }
    }

    /// The folder of the network that a part is made of.
    pub(super) fn folder(&self, part: Part) -> PathBuf {
        self.dir.join(part.source_folder())
    }

    /// The parts to export.
    pub(super) fn parts(&self, options: &Options) -> Result<Vec<Part>> {
        let Some(wanted) = &options.parts else {
            let mut parts = self.available();
            parts.retain(|&p| options.grad || p != Part::UnetGrad);
            return match parts.is_empty() {
                true => Err(self.no_network(Part::Unet)),
                false => Ok(parts),
            };
        };
        let available = self.available();
        let wanted: BTreeSet<Part> = wanted.iter().copied().collect();
        match wanted.iter().find(|p| !available.contains(p)) {
            Some(&missing) => Err(self.no_network(missing)),
            None => Ok(wanted.into_iter().collect()),
        }
    }

    fn no_network(&self, part: Part) -> Error {
        Error::NoNetwork {
            path: self.dir.clone(),
            part,
            folder: part.source_folder(),
        }
    }

    fn available(&self) -> Vec<Part> {
        let has = |part: &Part| self.folder(*part).join("config.json").is_file();
        Part::ALL.into_iter().filter(has).collect()
    }

    /// Copies everything that is not a network into `target`, and returns the copies' sha256s.
    pub(super) fn copy_files(
        &self,
        target: &Path,
        parts: &[Part],
    ) -> Result<BTreeMap<String, String>> {
        let mut names: Vec<(PathBuf, String)> = Vec::new();
        for name in FILES {
            names.push((self.dir.join(name), name.to_owned()));
        }
        for folder in FOLDERS {
            for name in file_names(&self.dir.join(folder))? {
                names.push((
                    self.dir.join(folder).join(&name),
                    format!("{folder}/{name}"),
                ));
            }
        }
        for part in parts {
            for name in NETWORK_FILES {
                let from = self.folder(*part).join(name);
                names.push((from, format!("{}/{name}", part.folder())));
            }
        }
        let mut copied = BTreeMap::new();
        for (from, name) in names {
            if from.is_file() && !copied.contains_key(&name) {
                let to = target.join(&name);
                if let Some(parent) = to.parent() {
                    fsio::create_dir_all(parent)?;
                }
                let bytes = fsio::read(&from)?;
                fsio::write(&to, &bytes)?;
                copied.insert(name, fsio::sha256_bytes(&bytes));
            }
        }
        Ok(copied)
    }
}

fn json(path: &Path) -> Result<serde_json::Value> {
    let text = fsio::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })
}

/// The names of the files in `dir`, sorted; none if there is no such folder.
fn file_names(dir: &Path) -> Result<Vec<String>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |source| fsio::Error {
        action: "read",
        path: dir.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}
