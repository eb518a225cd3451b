//! Writing a bundle.
//!
//! Everything is written into a temporary folder beside the bundle's place, which becomes the
//! bundle by one rename at the end: an export that fails, or is killed, leaves what was there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::build::{Built, compute, part_graph};
use super::link::{Users, link_weights, name_of};
use super::manifest::{Converted, FORMAT, LoraInfo, MANIFEST, Manifest, PartInfo, Port};
use super::merge::Adapters;
use super::plan::{Planned, graph_options};
use super::source::Source;
use super::{Error, Part, Result, Target};
use crate::fsio::{self, AtomicDir};
use crate::graph::{DType, Dim, Value};
use crate::nets::LoraSpec;
use crate::nets::graphs;
use crate::weights::Weights;

/// The file of zeros that LoRA inputs take their defaults from.
const ZEROS: &str = "zeros.bin";
/// Buffers that checkpoints hold and no network reads.
const BUFFERS: [&str; 3] = ["position_ids", "logit_scale", "num_batches_tracked"];

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The parts [default: all that the checkpoint has networks for].
    pub parts: Option<Vec<Part>>,
    /// Whether the default parts include `unet_grad`.
    pub grad: bool,
    /// Type of activations: f32, f16 or bf16. Parts that can't or shouldn't be computed in half
    /// precision stay f32, see [`VaeConfig::compute`](crate::nets::vae::VaeConfig::compute).
    pub dtype: DType,
    /// Operators to use.
    pub target: Target,
    /// Whether weights of another type are written into the bundle converted, instead of being cast
    /// by the graphs.
    pub convert: bool,
    /// Rank and targets of the UNet's LoRA inputs.
    pub lora: LoraSpec,
    /// Whether the bundle may outlive the checkpoint.
    pub detached: bool,
    /// A diffusers folder that has what the checkpoint lacks: networks, tokenizers.
    pub base: Option<PathBuf>,
    /// Take the weight files of this variant (`fp16`).
    pub variant: Option<String>,
    /// Adapters to add to the weights.
    pub merge: Vec<Adapter>,
    /// Whether `unet_grad` computes its blocks again for their gradient.
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores at the planned sizes.
    pub score_limit: Option<u64>,
    /// Pictures at once, and their width and height, to lay graphs out for [default: one, of the
    /// size the model was trained at].
    pub plan: Planned,
}

impl Options {
    /// Refuses what no checkpoint could be exported with, before anything is read or fetched.
    pub(super) fn check(&self) -> Result<()> {
        match (self.target, self.dtype) {
            (Target::Cuda, DType::BF16) => Err(Error::FusedBf16),
            _ => Ok(()),
        }
    }
}

/// An adapter to add to the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// A file, or a folder that holds one.
    pub file: PathBuf,
    /// What its change is multiplied by.
    pub scale: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: None,
            grad: true,
            dtype: DType::F32,
            target: Target::Plain,
            convert: false,
            lora: LoraSpec::default(),
            detached: false,
            base: None,
            variant: None,
            merge: Vec::new(),
            checkpointing: false,
            score_limit: None,
            plan: Planned::default(),
        }
    }
}

/// What an export reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file comes from the hub; told again and again until `bytes` is `total`.
    Fetching {
        /// The repository, with the revision where one was named.
        repo: &'a str,
        /// The file's path in it.
        file: &'a str,
        /// Bytes that are there.
        bytes: u64,
        /// Bytes that it has.
        total: u64,
    },
    /// A graph was written.
    Part {
        /// Which one.
        part: Part,
        /// What was written.
        info: &'a PartInfo,
        /// Time it took to build and write.
        time: Duration,
    },
    /// A network's weights were written in another type.
    Converted {
        /// The new file.
        file: &'a Path,
        /// What was converted.
        converted: &'a Converted,
    },
    /// A weight file stands on another file system than the bundle, so its bytes were copied.
    Copied {
        /// The weight file.
        source: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// A checkpoint holds tensors that no graph made of it reads.
    Unused {
        /// The checkpoint's folder or file.
        origin: &'a Path,
        /// The tensors' names.
        names: &'a [&'a str],
    },
}

/// Who is told about an export's steps.
pub(super) type Report<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Exports the checkpoint `src`, a path or else a hub id, to the bundle `out`, replacing a bundle that is there.
///
/// `report` is called after each step; [`ControlFlow::Break`] abandons the export.
///
/// # Errors
/// What [`Error`] lists for checkpoints and outputs. In every case `out` is as it was.
pub fn export(src: &Path, out: &Path, options: &Options, report: Report<'_>) -> Result<Manifest> {
    options.check()?;
    let source = Source::open(src, options, report)?;
    let parts = source.parts(options)?;
    let out = output(out, &source)?;
    let adapters = Adapters::read(&options.merge, &parts)?;
    let staged = AtomicDir::create(&out)?;
    let mut writer = Writer {
        adapters: &adapters,
        source: &source,
        options,
        graphs: graph_options(&source, options)?,
        dir: staged.path(),
        networks: BTreeMap::new(),
        converted: Vec::new(),
        parts: BTreeMap::new(),
        lora: None,
    };
    for &part in &parts {
        let start = Instant::now();
        let info = writer.write_part(part, report)?;
        let time = start.elapsed();
        step(report, Event::Part { part, info, time })?;
    }
    writer.report_unused(&parts, report)?;
    let manifest = Manifest {
        format: FORMAT,
        popalign: env!("CARGO_PKG_VERSION").into(),
        pipeline: source.pipeline(),
        source: source.path.clone(),
        base: source.base.clone(),
        detached: options.detached,
        dtype: options.dtype.short_name().into(),
        target: options.target,
        weights: link_weights(staged.path(), &writer.users(), report)?,
        files: source.copy_files(staged.path(), &parts)?,
        parts: writer.parts,
        lora: writer.lora,
        merged: adapters.manifest(),
        converted: writer.converted,
    };
    manifest.write(staged.path())?;
    staged.commit()?;
    Ok(manifest)
}

/// Reports a step, and stops if that is the answer.
pub(super) fn step(report: Report<'_>, event: Event<'_>) -> Result<()> {
    match report(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

/// The bundle's place, after checking that nothing but a bundle is there and that it is apart
/// from the checkpoint. Folders above it are created.
fn output(out: &Path, source: &Source) -> Result<PathBuf> {
    let failed = |action| fsio::at(action, out);
    let absolute = std::path::absolute(out).map_err(failed("create"))?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => {
            return Err(Error::InTheWay {
                path: out.to_path_buf(),
            });
        }
    };
    let overlaps = |place: &Path| {
        let sources = std::iter::once(&source.path).chain(&source.base);
        for source in sources {
            if source.starts_with(place) || place.starts_with(source) {
                return Err(Error::Overlap {
                    out: out.to_path_buf(),
                    source_dir: source.clone(),
                });
            }
        }
        Ok(())
    };
    overlaps(&absolute)?;
    fsio::create_dir_all(parent)?;
    let parent = parent.canonicalize().map_err(failed("create"))?;
    let mut place = parent.join(name);
    if place.symlink_metadata().is_ok() {
        place = place.canonicalize().map_err(failed("replace"))?;
        let free = || Some(place.read_dir().ok()?.next().is_none());
        let ours = || place.join(MANIFEST).is_file() && is_manifest(&place.join(MANIFEST));
        if free() != Some(true) && !ours() {
            return Err(Error::InTheWay {
                path: out.to_path_buf(),
            });
        }
    }
    overlaps(&place)?;
    Ok(place)
}

/// Whether a file is a manifest of ours, of whatever format.
fn is_manifest(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json.get("popalign").is_some() && json.get("format").is_some()
}

/// One network's weights, and the folders of the bundle whose graphs point into them.
struct Network {
    weights: Weights,
    users: Vec<&'static str>,
}

/// An export under way.
struct Writer<'a> {
    source: &'a Source,
    options: &'a Options,
    /// How graphs are built.
    graphs: graphs::Options,
    adapters: &'a Adapters,
    /// The folder being written.
    dir: &'a Path,
    /// By folder of the checkpoint: two parts may share one.
    networks: BTreeMap<&'static str, Network>,
    converted: Vec<Converted>,
    parts: BTreeMap<Part, PartInfo>,
    lora: Option<LoraInfo>,
}

impl Writer<'_> {
    /// Builds and writes the graph of a part.
    fn write_part(&mut self, part: Part, report: Report<'_>) -> Result<&PartInfo> {
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
    /// configuration says.
    fn report_unused(&self, parts: &[Part], report: Report<'_>) -> Result<()> {
        for (&folder, network) in &self.networks {
            // Half a VAE leaves the other half's tensors.
            let whole = |p: &Part| p.source_folder() != folder || parts.contains(p);
            let half = matches!(folder, "vae" | "clip") && !Part::ALL.iter().all(whole);
            let buffer = |name: &str| BUFFERS.iter().any(|b| name.ends_with(b));
            let mut names = network.weights.unused();
            names.retain(|name| !buffer(name));
            if !half && !names.is_empty() {
                let origin = &self.source.origin(folder);
                let names = &names;
                step(report, Event::Unused { origin, names })?;
            }
        }
        let unknown: Vec<&str> = self.source.unknown().iter().map(String::as_str).collect();
        if !unknown.is_empty() {
            let (origin, names) = (&self.source.path, &unknown);
            step(report, Event::Unused { origin, names })?;
        }
        Ok(())
    }

    /// The weight files, each with the folders whose graphs point into it. One file may hold
    /// several networks.
    fn users(&self) -> Users {
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
    report: Report<'_>,
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
    let gone = |f: &&std::sync::Arc<Path>| f.starts_with(dir) && !weights.files().contains(f);
    for file in before.iter().filter(gone) {
        fsio::remove_if_present(file)?;
    }
    let converted = Converted {
        file: name,
        dtype,
        tensors,
    };
    let (file, done) = (&file, &converted);
    step(
        report,
        Event::Converted {
            file,
            converted: done,
        },
    )?;
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
        .filter(|(name, _)| !name.starts_with("grad."));
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
