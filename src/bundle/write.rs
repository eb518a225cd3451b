//! Writing the graphs of a bundle.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::build::{Built, compute, part_graph};
use super::event::Report;
use super::link::{Users, name_of};
use super::manifest::{Converted, LoraInfo, PartInfo, Port, ZEROS};
use super::merge::Adapters;
use super::sizes::graph_options;
use super::source::Source;
use super::{Error, Event, Options, Part, Result};
use crate::base::fsio;
use crate::family::ports::training::GRAD;
use crate::graph::{DType, Dim, Value};
use crate::nets::graphs;
use crate::tensors::Weights;

/// Buffers that checkpoints hold and no network reads.
const BUFFERS: [&str; 3] = ["position_ids", "logit_scale", "num_batches_tracked"];

/// One network's weights, and the folders of the bundle whose graphs point into them.
struct Network {
    weights: Weights,
    users: Vec<&'static str>,
}

/// An export under way.
pub(super) struct Writer<'a> {
    source: &'a Source,
    options: &'a Options,
    /// How graphs are built.
    graphs: graphs::Options,
    adapters: &'a Adapters,
    /// The folder being written.
    dir: &'a Path,
    /// By folder of the checkpoint: two parts may share one.
    networks: BTreeMap<&'static str, Network>,
    pub(super) converted: Vec<Converted>,
    pub(super) parts: BTreeMap<Part, PartInfo>,
    pub(super) lora: Option<LoraInfo>,
}

impl<'a> Writer<'a> {
    /// An export into `dir` that has written nothing yet.
    ///
    /// # Errors
    /// A size that the model can't draw.
    pub(super) fn new(
        source: &'a Source,
        options: &'a Options,
        adapters: &'a Adapters,
        dir: &'a Path,
    ) -> Result<Self> {
        Ok(Self {
            source,
            options,
            graphs: graph_options(source, options)?,
            adapters,
            dir,
            networks: BTreeMap::new(),
            converted: Vec::new(),
            parts: BTreeMap::new(),
            lora: None,
        })
    }

    /// Builds and writes the graph of a part.
    pub(super) fn write_part(&mut self, part: Part, report: &mut Report<'_>) -> Result<&PartInfo> {
        let folder = part.source_folder();
        let config = self.source.config(folder)?;
        let dtype = compute(part, self.options.dtype, &config)
            .map_err(|e| Error::network(part, self.source.origin(folder), e))?;
        let network = match self.networks.entry(folder) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut weights = self.source.weights(folder)?;
                let place = self.dir.join(part.folder());
                self.adapters.merge(folder, &mut weights, &place)?;
                if self.options.convert {
                    let done = convert(part, dtype, &mut weights, self.dir, report)?;
                    self.converted.extend(done);
                }
                let users = Vec::new();
                entry.insert(Network { weights, users })
            }
        };
        if !network.users.contains(&part.folder()) {
            network.users.push(part.folder());
        }
        let weights = &network.weights;
        let built = part_graph(part, self.source, self.options, &self.graphs, weights)?;
        if matches!(part, Part::Unet | Part::UnetGrad) {
            self.lora = Some(LoraInfo {
                rank: self.options.lora.rank,
                targets: self.options.lora.targets.clone(),
                modules: built.lora.clone(),
            });
        }
        let info = write_graph(self.dir, part, &built, weights)?;
        Ok(self.parts.entry(part).or_insert(info))
    }

    /// Reports tensors that no exported graph reads: a sign of a network that is not what its
    /// configuration says. A single file has no configuration: there they are all that says that its
    /// UNet is another one.
    pub(super) fn report_unused(&self, parts: &[Part], report: &mut Report<'_>) -> Result<()> {
        for (&folder, network) in &self.networks {
            // Half a VAE leaves the other half's tensors.
            let whole = |p: &Part| p.source_folder() != folder || parts.contains(p);
            let half = matches!(folder, "vae" | "clip") && !Part::ALL.iter().all(whole);
            let buffer = |name: &str| BUFFERS.iter().any(|b| name.ends_with(b));
            let mut names = network.weights.unused();
            names.retain(|name| !buffer(name));
            if !half && !names.is_empty() {
                let origin = &self.source.origin(folder);
                if let Some(name) = self.source.unet_of_file(folder).and(names.first()) {
                    return Err(Error::OtherUnet {
                        file: origin.clone(),
                        name: (*name).to_owned(),
                    });
                }
                let names = &names;
                report.step(Event::Unused { origin, names })?;
            }
        }
        let unknown: Vec<&str> = self.source.unknown().iter().map(String::as_str).collect();
        if !unknown.is_empty() {
            let (origin, names) = (&self.source.path, &unknown);
            report.step(Event::Unused { origin, names })?;
        }
        Ok(())
    }

    /// The weight files, each with the folders whose graphs point into it. One file may hold
    /// several networks.
    pub(super) fn users(&self) -> Users {
        let mut users = Users::new();
        for network in self.networks.values() {
            for file in network.weights.files() {
                let folders = users.entry(file.to_path_buf()).or_default();
                folders.extend(network.users.iter().copied());
            }
        }
        users
    }
}

/// Writes a network's weights of another type than `dtype` into the bundle, if there are any. A
/// file of merged weights that then has none left is removed.
fn convert(
    part: Part,
    dtype: DType,
    weights: &mut Weights,
    dir: &Path,
    report: &mut Report<'_>,
) -> Result<Option<Converted>> {
    let name = format!(
        "{}/popalign-{}.safetensors",
        part.folder(),
        dtype.short_name()
    );
    let file = dir.join(&name);
    fsio::create_dir_all(dir.join(part.folder()))?;
    let before = weights.files().to_vec();
    let tensors = weights.convert(dtype, &file)?;
    if tensors == 0 {
        return Ok(None);
    }
    let gone = |f: &&Arc<Path>| f.starts_with(dir) && !weights.files().contains(f);
    for file in before.iter().filter(gone) {
        fsio::remove_if_present(file)?;
    }
    let converted = Converted {
        file: name,
        dtype,
        tensors,
    };
    report.step(Event::Converted {
        file: &file,
        converted: &converted,
    })?;
    Ok(Some(converted))
}

/// Writes a graph and, if it needs one, its file of zeros.
fn write_graph(dir: &Path, part: Part, built: &Built, weights: &Weights) -> Result<PartInfo> {
    let graph = &built.graph;
    let folder = dir.join(part.folder());
    fsio::create_dir_all(&folder)?;
    let onnx = graph.to_onnx(name_of, ZEROS);
    if onnx.zeros > 0 {
        fsio::write(folder.join(ZEROS), vec![0; onnx.zeros as usize])?;
    }
    fsio::write(folder.join(part.file_name()), &onnx.model)?;
    let dim = |d: &Dim| {
        d.fixed()
            .map_or_else(|| graph.dim_text(d).into(), Json::from)
    };
    let port = |name: &str, value: Value| Port {
        name: name.to_owned(),
        dtype: graph.dtype(value),
        shape: graph.shape(value).iter().map(dim).collect(),
    };
    let inputs = graph.inputs().filter(|(_, _, optional)| !optional);
    let outputs = graph
        .outputs()
        .iter()
        .filter(|(name, _)| !name.starts_with(GRAD));
    let files = weights.files().iter();
    Ok(PartInfo {
        model: format!("{}/{}", part.folder(), part.file_name()),
        sha256: fsio::sha256_bytes(&onnx.model),
        bytes: onnx.model.len() as u64,
        dtype: built.dtype,
        target: built.target,
        operations: graph.len(),
        parameters: weights.parameters(),
        inputs: inputs.map(|(name, value, _)| port(name, value)).collect(),
        outputs: outputs.map(|(name, value)| port(name, *value)).collect(),
        weights: files
            .map(|f| format!("{}/{}", part.folder(), name_of(f)))
            .collect(),
    })
}
