//! A checkpoint, opened.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::index::INDEX;
use super::{builtin, hub};
use crate::base::{fsio, json};
use crate::bundle::event::Report;
use crate::bundle::{Error, Options, Part, Result};
use crate::family::checkpoint::Checkpoint;
use crate::family::{Family, REFINER_TIME_IDS, Slot, TIME_IDS};
use crate::tensors::Weights;

/// The class of a UNet in its `config.json`.
const UNET_CLASS: &str = "UNet2DConditionModel";

/// A checkpoint and what completes it.
#[derive(Debug)]
pub(in crate::bundle) struct Source {
    /// The folder or file, absolute and without symbolic links.
    pub(in crate::bundle) path: PathBuf,
    /// The folder that completes it, likewise.
    pub(in crate::bundle) base: Option<PathBuf>,
    pub(super) layout: Layout,
    /// Variant of the weight files, as `fp16`.
    variant: Option<String>,
    /// What `model_index.json` says, if there is one.
    pub(super) index: Option<Json>,
}

/// How a checkpoint is laid out.
#[derive(Debug)]
pub(super) enum Layout {
    /// diffusers' folder of folders.
    Diffusers,
    /// The folder of a UNet alone.
    Unet,
    /// All networks in one file.
    File(Checkpoint),
}

/// Where a network is.
pub(super) enum Place<'a> {
    /// In a folder of its own.
    Folder(PathBuf),
    /// In the single file.
    File(&'a Checkpoint),
}

impl Source {
    /// Opens the checkpoint at `path`, or of that hub id, completed as the options say.
    pub(in crate::bundle) fn open(
        path: &Path,
        options: &Options,
        report: &mut Report<'_>,
    ) -> Result<Self> {
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

    /// The folders and the file that it consists of.
    pub(in crate::bundle) fn places(&self) -> Vec<&Path> {
        let base = self.base.iter().map(PathBuf::as_path);
        std::iter::once(self.path.as_path()).chain(base).collect()
    }

    /// The pipeline's class.
    pub(in crate::bundle) fn pipeline(&self) -> Option<String> {
        let class = self.index.as_ref()?.get("_class_name")?;
        Some(class.as_str()?.to_owned())
    }

    /// Number of `time_ids`: SDXL's refiner has an aesthetic score instead of the target size.
    pub(in crate::bundle) fn time_ids(&self) -> u64 {
        let key = "requires_aesthetics_score";
        let refiner = self.index.as_ref().and_then(|i| i.get(key)?.as_bool());
        match refiner {
            Some(true) => REFINER_TIME_IDS as u64,
            _ => TIME_IDS as u64,
        }
    }

    /// The family: what its UNet says, or where it has none the file or its pipeline.
    pub(in crate::bundle) fn family(&self) -> Result<Family> {
        if self.has("unet") {
            return Ok(Family::of_unet(&self.config("unet")?));
        }
        Ok(match &self.layout {
            Layout::File(checkpoint) => checkpoint.family(),
            Layout::Diffusers | Layout::Unet => Family::of_pipeline(self.pipeline().as_deref()),
        })
    }

    /// The configuration of a network.
    pub(in crate::bundle) fn config(&self, network: &'static str) -> Result<Json> {
        let name = format!("{network}/config.json");
        let found = match self.place(network) {
            Some(Place::Folder(folder)) => Some(json::read(&folder.join("config.json"), "JSON")?),
            Some(Place::File(_)) => self.read(&name)?,
            None => None,
        };
        found.ok_or_else(|| self.no_network(network, network))
    }

    /// Whether the checkpoint or its base has a network.
    pub(in crate::bundle) fn has(&self, network: &'static str) -> bool {
        self.place(network).is_some()
    }

    /// The weights of a network.
    pub(in crate::bundle) fn weights(&self, network: &'static str) -> Result<Weights> {
        match self.place(network) {
            Some(Place::Folder(folder)) => {
                Ok(Weights::open_variant(folder, self.variant.as_deref())?)
            }
            Some(Place::File(checkpoint)) => Ok(checkpoint.weights(network)?),
            None => Err(self.no_network(network, network)),
        }
    }

    /// The folder or file that a network comes from, for messages.
    pub(in crate::bundle) fn origin(&self, network: &str) -> PathBuf {
        match self.place(network) {
            Some(Place::Folder(folder)) => folder,
            Some(Place::File(_)) => self.path.clone(),
            None => self.path.join(network),
        }
    }

    /// The single file, if `network` is a UNet out of one.
    pub(in crate::bundle) fn unet_of_file(&self, network: &str) -> Option<&Path> {
        let file = matches!(self.place(network), Some(Place::File(_)));
        (file && network == "unet").then_some(&self.path)
    }

    /// Names in a single file that belong to no network.
    pub(in crate::bundle) fn unknown(&self) -> &[String] {
        match &self.layout {
            Layout::File(checkpoint) => checkpoint.unknown(),
            Layout::Diffusers | Layout::Unet => &[],
        }
    }

    /// The parts to export.
    pub(in crate::bundle) fn parts(&self, options: &Options) -> Result<Vec<Part>> {
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
        for slot in Slot::ALL {
            let (part, folder) = (Part::from(slot), slot.tokenizer());
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

    pub(super) fn place(&self, network: &str) -> Option<Place<'_>> {
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

    /// The folders in diffusers' layout: the checkpoint itself, if it is one, and the base.
    pub(super) fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let own = Some(&self.path).filter(|_| matches!(self.layout, Layout::Diffusers));
        own.into_iter().chain(&self.base)
    }

    /// A JSON file of the model: the checkpoint's own, the base's, or the family's.
    pub(super) fn read(&self, name: &str) -> Result<Option<Json>> {
        for folder in self.folders() {
            let path = folder.join(name);
            if path.is_file() {
                return Ok(Some(json::read(&path, "JSON")?));
            }
        }
        let Layout::File(checkpoint) = &self.layout else {
            return Ok(None);
        };
        let Some(text) = builtin::file(checkpoint.family(), name) else {
            return Ok(None);
        };
        Ok(Some(json::parse(text.as_bytes(), name.as_ref(), "JSON")?))
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
    let config: Json = json::read(&path, "JSON")?;
    Ok(config.get("_class_name").and_then(Json::as_str) == Some(UNET_CLASS))
}
