//! A bundle, opened.

use std::path::{Path, PathBuf};

use super::manifest::{BundleManifest, LoraInfo, PartInfo, WeightFile};
use super::verify::verify;
use super::{Error, Identity, Part, Result, Target};
use crate::base::{fsio, json};
use crate::family::Family;
use crate::graph::DType;
use crate::runtime::{Ep, Runtime, Session, SessionOptions, resolve};

/// An opened bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    manifest: BundleManifest,
}

impl Bundle {
    /// Opens a bundle and checks that it is whole and that its weights are those it was made of.
    ///
    /// Sizes and times are compared; only a file whose time differs is hashed. The checkpoint it
    /// was made of must still be where it was, unchanged, unless the bundle was exported
    /// detached.
    ///
    /// # Errors
    /// [`Error::NotABundle`], [`Error::Version`], [`Error::Damaged`] for a file that is missing or
    /// altered, [`Error::SourceMoved`], [`Error::SourceChanged`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let manifest = BundleManifest::read(dir)?;
        verify(dir, &manifest)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            manifest,
        })
    }

    /// The bundle's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `bundle.json` says.
    pub fn config(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Whether it has this part.
    pub fn has(&self, part: Part) -> bool {
        self.manifest.parts.contains_key(&part)
    }

    /// The model file of a part.
    ///
    /// # Errors
    /// [`Error::NoPart`] if the bundle was exported without it.
    pub fn path(&self, part: Part) -> Result<PathBuf> {
        Ok(self.dir.join(&self.part(part)?.model))
    }

    /// What `bundle.json` says about a part.
    ///
    /// # Errors
    /// [`Error::NoPart`] if the bundle was exported without it.
    pub fn part(&self, part: Part) -> Result<&PartInfo> {
        self.manifest.parts.get(&part).ok_or_else(|| Error::NoPart {
            dir: self.dir.clone(),
            part,
            has: self.manifest.parts.keys().copied().collect(),
        })
    }

    /// The LoRA layers that `unet` and `unet_grad` take.
    ///
    /// # Errors
    /// [`Error::NoLora`] if the bundle has neither.
    pub fn lora(&self) -> Result<&LoraInfo> {
        let none = || Error::NoLora {
            dir: self.dir.clone(),
        };
        self.manifest.lora.as_ref().ok_or_else(none)
    }

    /// A file that was copied from the checkpoint (`axes.toml`, `scheduler/scheduler_config.json`
    /// …), if it has it.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join(name)).filter(|path| path.exists())
    }

    /// A JSON file of the bundle: `unet/config.json`, `scheduler/scheduler_config.json` …
    ///
    /// # Errors
    /// [`Error::Json`] if it is absent or not JSON.
    pub fn json(&self, name: &str) -> Result<serde_json::Value> {
        Ok(json::read(&self.dir.join(name), "JSON")?)
    }

    /// The model's family, as its UNet says.
    ///
    /// # Errors
    /// [`Error::NoPart`] if it has no UNet, [`Error::Json`] if that has no configuration.
    pub fn family(&self) -> Result<Family> {
        let part = match self.has(Part::Unet) {
            true => Part::Unet,
            false => Part::UnetGrad,
        };
        self.part(part)?;
        let config = self.json(&format!("{}/config.json", part.folder()))?;
        Ok(Family::of_unet(&config))
    }

    /// Loads a part. TensorRT's engines are cached by what the weights are, as `bundle.json`
    /// records it.
    ///
    /// # Errors
    /// [`Error::NoPart`], [`Error::NoKernels`] for a graph that the provider can't run, and what
    /// [`Session::open`] refuses.
    pub fn session(
        &self,
        runtime: &Runtime,
        part: Part,
        options: &SessionOptions,
    ) -> Result<Session> {
        let path = self.path(part)?;
        if self.lacks_kernels(part, Ep::Cpu)?.is_some() {
            let ep = match options.ep {
                Ep::Auto => resolve(runtime, options)?,
                ep => ep,
            };
            if let Some(what) = self.lacks_kernels(part, ep)? {
                let dir = self.dir.clone();
                return Err(Error::NoKernels {
                    dir,
                    part,
                    what,
                    ep,
                });
            }
        }
        let options = SessionOptions {
            weights_hash: Some(self.weights_key(part)?),
            ..options.clone()
        };
        Ok(Session::open(runtime, path, &options)?)
    }

    /// What in a part's graph a provider has no kernels for, if anything.
    pub(super) fn lacks_kernels(&self, part: Part, ep: Ep) -> Result<Option<&'static str>> {
        let info = self.part(part)?;
        Ok(match (info.target, info.dtype, ep) {
            (Target::Cuda, _, Ep::Cpu | Ep::TensorRt) => Some("fused operators for CUDA"),
            (_, DType::BF16, Ep::Cpu) => Some("bf16"),
            _ => None,
        })
    }

    /// A hash of a part's graph and of the weights that it points into.
    ///
    /// # Errors
    /// [`Error::NoPart`] if the bundle was exported without it.
    pub fn fingerprint(&self, part: Part) -> Result<String> {
        let (graph, weights) = (&self.part(part)?.sha256, self.weights_hash(part)?);
        Ok(fsio::sha256_bytes(format!("{graph}+{weights}").as_bytes()))
    }

    /// The identities of the weight files of a part, joined.
    fn weights_hash(&self, part: Part) -> Result<String> {
        let identities = self.weight_files(part)?.map(|w| w.identity.text());
        Ok(identities.collect::<Vec<_>>().join("+"))
    }

    /// The same with the times of files known by samples only: an engine must not outlive a change
    /// that samples miss, and building one in vain costs only time.
    fn weights_key(&self, part: Part) -> Result<String> {
        let key = |w: &WeightFile| match &w.identity {
            Identity::Whole(hash) => hash.clone(),
            sampled => format!("{}-{}", sampled.text(), w.modified),
        };
        Ok(self
            .weight_files(part)?
            .map(key)
            .collect::<Vec<_>>()
            .join("+"))
    }

    /// The weight files that a part's graph points into.
    ///
    /// # Errors
    /// [`Error::NoPart`] if the bundle was exported without it.
    pub fn weight_files(&self, part: Part) -> Result<impl Iterator<Item = &WeightFile>> {
        let links = &self.part(part)?.weights;
        let uses = |w: &&WeightFile| w.links.iter().any(|l| links.contains(&l.path));
        Ok(self.manifest.weights.iter().filter(uses))
    }
}
