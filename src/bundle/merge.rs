//! Adding adapters to the weights while exporting.

use std::path::Path;

use super::manifest::Merged;
use super::{Adapter, Error, Part, Result};
use crate::base::fsio;
use crate::lora;
use crate::lora::LoraAdapter;
use crate::tensors::Weights;

/// The file in a network's folder that holds its changed weights.
const FILE: &str = "popalign-merged.safetensors";

/// The adapters of one export, read.
pub(super) struct Adapters(Vec<(Adapter, lora::Adapters)>);

impl Adapters {
    /// Reads the adapters, each of which must change only networks that are exported.
    pub(super) fn read(files: &[Adapter], parts: &[Part]) -> Result<Self> {
        let mut adapters = Vec::with_capacity(files.len());
        for adapter in files {
            let read = lora::read_all(&adapter.file).map_err(refused(&adapter.file))?;
            let exported = |network| parts.iter().any(|p| p.source_folder() == network);
            if let Some(&network) = read.keys().find(|n| !exported(**n)) {
                return Err(Error::LoraNetwork {
                    file: adapter.file.clone(),
                    network,
                });
            }
            adapters.push((adapter.clone(), read));
        }
        Ok(Self(adapters))
    }

    /// Adds what changes a network to its weights; the changed ones are written into `folder`.
    pub(super) fn merge(&self, network: &str, weights: &mut Weights, folder: &Path) -> Result<()> {
        let changes: Vec<(&LoraAdapter, f32)> = self
            .0
            .iter()
            .filter_map(|(adapter, read)| Some((read.get(network)?, adapter.scale)))
            .collect();
        let Some((first, _)) = self.0.iter().find(|(_, read)| read.contains_key(network)) else {
            return Ok(());
        };
        fsio::create_dir_all(folder)?;
        lora::merge(weights, &changes, &folder.join(FILE)).map_err(refused(&first.file))?;
        Ok(())
    }

    /// What `bundle.json` says of them.
    pub(super) fn manifest(&self) -> Vec<Merged> {
        let merged = self.0.iter().map(|(adapter, read)| Merged {
            file: adapter.file.clone(),
            scale: adapter.scale,
            weights: read
                .iter()
                .map(|(network, lora)| ((*network).to_owned(), lora.modules.len()))
                .collect(),
        });
        merged.collect()
    }
}

fn refused(file: &Path) -> impl FnOnce(lora::Error) -> Error {
    move |source| Error::Lora {
        file: file.to_path_buf(),
        source: Box::new(source),
    }
}
