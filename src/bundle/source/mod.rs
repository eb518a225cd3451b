//! Checkpoints as they come: folders in diffusers' layout, one network's folder, single files.
//!
//! What a checkpoint lacks comes from `--base`, a diffusers folder: the other networks of a model
//! that is only a UNet, the tokenizers of a single file. A single file's configurations are those
//! of its family, unless the base has them. Where nothing of the name is on the disk, both may be
//! ids of the Hugging Face hub ([`hub`]).

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

mod builtin;
mod files;
mod hub;

use super::export::Report;
use super::{Error, Options, Part, Result};
use crate::base::fsio;
use crate::family::checkpoint::Checkpoint;
use crate::tensors::Weights;

/// A model's index in diffusers' layout.
const INDEX: &str = "model_index.json";
/// The class of a UNet in its `config.json`.
const UNET_CLASS: &str = "UNet2DConditionModel";

/// A checkpoint and what completes it.
#[derive(Debug)]
pub(super) struct Source {
    /// The folder or file, absolute and without symbolic links.
    pub(super) path: PathBuf,
    /// The folder that completes it, likewise.
    pub(super) base: Option<PathBuf>,
    layout: Layout,
    /// Variant of the weight files, as `fp16`.
    variant: Option<String>,
    /// What `model_index.json` says, if there is one.
    index: Option<Json>,
}

/// How a checkpoint is laid out.
#[derive(Debug)]
enum Layout {
    /// diffusers' folder of folders.
    Diffusers,
    /// The folder of a UNet alone.
    Unet,
    /// All networks in one file.
    File(Checkpoint),
}

/// Where a network is.
enum Place<'a> {
    /// In a folder of its own.
    Folder(PathBuf),
    /// In the single file.
    File(&'a Checkpoint),
}

impl Source {
    /// Opens the checkpoint at `path`, or of that hub id, completed as the options say.
    pub(super) fn open(path: &Path, options: &Options, report: Report<'_>) -> Result<Self> {
        let canonical = |path: &Path| path.canonicalize().map_err(fsio::at("open", path));
        let wanted = wanted(options);
        let found = match path.exists() {
            true => path.to_path_buf(),
            false => {
                let none = || Error::NoSource { path: path.into() };
                let want = hub::Want::model(&wanted, options);
                hub::fetch(path, &want, report)?.ok_or_else(none)?
            }
        };
        let real = match (found.parent(), found.file_name()) {
            // A file of the hub's cache is a link to one without an extension: keep its own name.
            (Some(folder), Some(name)) if found.is_file() => {
                canonical(&Path::new(".").join(folder))?.join(name)
            }
            _ => canonical(&found)?,
        };
        let layout = if real.is_file() {
            Layout::File(Checkpoint::open(&real)?)
        } else if is_unet(&real)? {
            Layout::Unet
        } else {
            Layout::Diffusers
        };
        let mut source = Self {
            path: real,
            base: None,
            layout,
            variant: options.variant.clone(),
            index: None,
        };
        source.base = match &options.base {
            Some(base) if base.is_dir() => Some(canonical(base)?),
            Some(base) => {
                let none = || Error::NoBase { path: base.clone() };
                let lacking: Vec<_> = wanted.into_iter().filter(|n| !source.own(n)).collect();
                let want = hub::Want::base(&lacking, options);
                let folder = match base.exists() {
                    true => None,
                    false => hub::fetch(base, &want, report)?,
                };
                Some(canonical(&folder.ok_or_else(none)?)?)
            }
            None => None,
        };
        source.index = source.read(INDEX)?;
        let own = matches!(source.layout, Layout::Diffusers)
            && !source.path.join(INDEX).is_file()
            && !Part::ALL.iter().any(|p| source.own(p.source_folder()));
        if own {
            let folders: std::collections::BTreeSet<_> =
                Part::ALL.iter().map(|p| p.source_folder()).collect();
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

    /// The configuration of a network.
    pub(super) fn config(&self, network: &'static str) -> Result<Json> {
        let name = format!("{network}/config.json");
        let found = match self.place(network) {
            Some(Place::Folder(folder)) => Some(json(&folder.join("config.json"))?),
            Some(Place::File(_)) => self.read(&name)?,
            None => None,
        };
        found.ok_or_else(|| self.no_network(network, network))
    }

    /// Whether the checkpoint or its base has a network.
    pub(super) fn has(&self, network: &'static str) -> bool {
        self.place(network).is_some()
    }

    /// The weights of a network.
    pub(super) fn weights(&self, network: &'static str) -> Result<Weights> {
        match self.place(network) {
            Some(Place::Folder(folder)) => {
                Ok(Weights::open_variant(folder, self.variant.as_deref())?)
            }
            Some(Place::File(checkpoint)) => Ok(checkpoint.weights(network)?),
            None => Err(self.no_network(network, network)),
        }
    }

    /// The folder or file that a network comes from, for messages.
    pub(super) fn origin(&self, network: &str) -> PathBuf {
        match self.place(network) {
            Some(Place::Folder(folder)) => folder,
            Some(Place::File(_)) => self.path.clone(),
            None => self.path.join(network),
        }
    }

    /// Names in a single file that belong to no network.
    pub(super) fn unknown(&self) -> &[String] {
        match &self.layout {
            Layout::File(checkpoint) => checkpoint.unknown(),
            Layout::Diffusers | Layout::Unet => &[],
        }
    }

    /// The parts to export.
    pub(super) fn parts(&self, options: &Options) -> Result<Vec<Part>> {
        let available: Vec<Part> = Part::ALL
            .into_iter()
            .filter(|p| self.place(p.source_folder()).is_some())
            .collect();
        let missing = |p: Part| self.no_network(p.name(), p.source_folder());
        let parts = match &options.parts {
            None => {
                let wanted = |p: &Part| options.grad || *p != Part::UnetGrad;
                available.into_iter().filter(wanted).collect::<Vec<_>>()
            }
            Some(wanted) => {
                if let Some(&part) = wanted.iter().find(|p| !available.contains(p)) {
                    return Err(missing(part));
                }
                let sorted: std::collections::BTreeSet<Part> = wanted.iter().copied().collect();
                sorted.into_iter().collect()
            }
        };
        if parts.is_empty() {
            return Err(missing(Part::Unet));
        }
        self.check_tokenizers(&parts)?;
        Ok(parts)
    }

    /// A single file has no tokenizers; without them nothing could be drawn.
    fn check_tokenizers(&self, parts: &[Part]) -> Result<()> {
        if !matches!(self.layout, Layout::File(_)) {
            return Ok(());
        }
        for (part, folder) in [
            (Part::TextEncoder, "tokenizer"),
            (Part::TextEncoder2, "tokenizer_2"),
        ] {
            let there = |base: &PathBuf| base.join(folder).is_dir();
            if parts.contains(&part) && !self.base.as_ref().is_some_and(there) {
                return Err(Error::NoTokenizer {
                    path: self.path.clone(),
                    base: self.base.clone(),
                    folder,
                });
            }
        }
        Ok(())
    }

    fn no_network(&self, part: &'static str, folder: &'static str) -> Error {
        let path = self.path.clone();
        match self.layout {
            Layout::File(_) => Error::NotInFile { path, part, folder },
            Layout::Diffusers | Layout::Unet => Error::NoNetwork { path, part, folder },
        }
    }

    /// Whether the checkpoint itself has a network.
    fn own(&self, network: &str) -> bool {
        match &self.layout {
            Layout::Diffusers => self.path.join(network).join("config.json").is_file(),
            Layout::Unet => network == "unet",
            Layout::File(checkpoint) => checkpoint.has(network),
        }
    }

    fn place(&self, network: &str) -> Option<Place<'_>> {
        if self.own(network) {
            return Some(match &self.layout {
                Layout::Diffusers => Place::Folder(self.path.join(network)),
                Layout::Unet => Place::Folder(self.path.clone()),
                Layout::File(checkpoint) => Place::File(checkpoint),
            });
        }
        let folder = self.base.as_ref()?.join(network);
        let there = folder.join("config.json").is_file();
        there.then_some(Place::Folder(folder))
    }

    /// A JSON file of the model: the checkpoint's own, the base's, or the family's.
    fn read(&self, name: &str) -> Result<Option<Json>> {
        let own = Some(&self.path).filter(|_| matches!(self.layout, Layout::Diffusers));
        for folder in own.into_iter().chain(&self.base) {
            let path = folder.join(name);
            if path.is_file() {
                return json(&path).map(Some);
            }
        }
        let Layout::File(checkpoint) = &self.layout else {
            return Ok(None);
        };
        let Some(text) = builtin::file(checkpoint.family(), name) else {
            return Ok(None);
        };
        let parsed = serde_json::from_str(text);
        parsed.map(Some).map_err(|source| Error::Json {
            path: name.into(),
            source,
        })
    }
}

/// The networks that the options' parts are made of, by their folders.
fn wanted(options: &Options) -> Vec<&'static str> {
    let parts = options.parts.as_deref().unwrap_or(&Part::ALL);
    let folders: std::collections::BTreeSet<_> = parts.iter().map(|p| p.source_folder()).collect();
    folders.into_iter().collect()
}

/// Whether a folder is that of a UNet alone.
fn is_unet(dir: &Path) -> Result<bool> {
    let path = dir.join("config.json");
    if !path.is_file() || dir.join(INDEX).is_file() {
        return Ok(false);
    }
    Ok(json(&path)?.get("_class_name").and_then(Json::as_str) == Some(UNET_CLASS))
}

fn json(path: &Path) -> Result<Json> {
    let text = fsio::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        path: path.to_path_buf(),
        source,
    })
}
