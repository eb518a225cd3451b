//! Writing a bundle.
//!
//! Everything is written into a temporary folder beside the bundle's place, which becomes the
//! bundle by one rename at the end: an export that fails, or is killed, leaves what was there.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde_json::Value as Json;

use super::manifest::{
    FORMAT, Link, LoraInfo, MANIFEST, Manifest, PartInfo, Port, WeightFile, modified,
};
use super::source::Source;
use super::{Error, Part, Result};
use crate::fsio::{self, AtomicDir, Linked};
use crate::graph::{Dim, Graph, Value};
use crate::nets::graphs::{self, UnetGraph};
use crate::nets::{self, LoraModule, LoraSpec, read_config};
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
    /// Rank and targets of the UNet's LoRA inputs.
    pub lora: LoraSpec,
    /// Whether the bundle may outlive the checkpoint.
    pub detached: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: None,
            grad: true,
            lora: LoraSpec::default(),
            detached: false,
        }
    }
}

/// What an export reports while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A graph was written.
    Part {
        /// Which one.
        part: Part,
        /// What was written.
        info: &'a PartInfo,
        /// Time it took to build and write.
        time: Duration,
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
        /// The checkpoint's folder.
        folder: &'a Path,
        /// The tensors' names.
        names: &'a [&'a str],
    },
}

/// Exports the checkpoint folder `src` to the bundle `out`, replacing a bundle that is there.
///
/// `report` is called after each step; [`ControlFlow::Break`] abandons the export.
///
/// # Errors
/// What [`Error`] lists for checkpoints and outputs. In every case `out` is as it was.
pub fn export(
    src: &Path,
    out: &Path,
    options: &Options,
    report: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Manifest> {
    let source = Source::open(src)?;
    let parts = source.parts(options)?;
    let out = output(out, &source.dir)?;
    let staged = AtomicDir::create(&out)?;
    let mut writer = Writer {
        source: &source,
        options,
        dir: staged.path(),
        networks: BTreeMap::new(),
        parts: BTreeMap::new(),
        lora: None,
    };
    for &part in &parts {
        let start = Instant::now();
        let info = writer.write_part(part)?;
        let time = start.elapsed();
        step(report, Event::Part { part, info, time })?;
    }
    writer.report_unused(&parts, report)?;
    let manifest = Manifest {
        format: FORMAT,
        popalign: env!("CARGO_PKG_VERSION").into(),
        pipeline: source.pipeline(),
        source: source.dir.clone(),
        detached: options.detached,
        dtype: "fp32".into(),
        target: "plain".into(),
        weights: writer.link_weights(report)?,
        files: source.copy_files(staged.path(), &parts)?,
        parts: writer.parts,
        lora: writer.lora,
    };
    manifest.write(staged.path())?;
    staged.commit()?;
    Ok(manifest)
}

fn step(report: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>, event: Event<'_>) -> Result<()> {
    match report(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

/// The bundle's place, after checking that nothing but a bundle is there and that it is apart
/// from the checkpoint. Folders above it are created.
fn output(out: &Path, source: &Path) -> Result<PathBuf> {
    let failed = |action| {
        move |source| fsio::Error {
            action,
            path: out.to_path_buf(),
            source,
        }
    };
    let absolute = std::path::absolute(out).map_err(failed("create"))?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => {
            return Err(Error::InTheWay {
                path: out.to_path_buf(),
            });
        }
    };
    let overlaps = |place: &Path| match source.starts_with(place) || place.starts_with(source) {
        true => Err(Error::Overlap {
            out: out.to_path_buf(),
            source_dir: source.to_path_buf(),
        }),
        false => Ok(()),
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
    /// The folder being written.
    dir: &'a Path,
    /// By folder of the checkpoint: two parts may share one.
    networks: BTreeMap<&'static str, Network>,
    parts: BTreeMap<Part, PartInfo>,
    lora: Option<LoraInfo>,
}

impl Writer<'_> {
    /// Builds and writes the graph of a part.
    fn write_part(&mut self, part: Part) -> Result<&PartInfo> {
        let folder = self.source.folder(part);
        let network = match self.networks.entry(part.source_folder()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Network {
                weights: Weights::open_dir(&folder)?,
                users: Vec::new(),
            }),
        };
        if !network.users.contains(&part.folder()) {
            network.users.push(part.folder());
        }
        let options = graphs::Options {
            lora: Some(self.options.lora.clone()),
            time_ids: self.source.time_ids(),
            ..graphs::Options::default()
        };
        let built = build(part, &folder, &network.weights, &options);
        let (graph, modules) = built.map_err(|source| Error::Network {
            part,
            folder,
            source: Box::new(source),
        })?;
        if matches!(part, Part::Unet | Part::UnetGrad) {
            self.lora = Some(LoraInfo {
                rank: self.options.lora.rank,
                targets: self.options.lora.targets.clone(),
                modules,
            });
        }
        let info = write_graph(self.dir, part, &graph, &network.weights)?;
        Ok(self.parts.entry(part).or_insert(info))
    }

    /// Reports tensors that no exported graph reads: a sign of a network that is not what its
    /// configuration says.
    fn report_unused(
        &self,
        parts: &[Part],
        report: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        for (&folder, network) in &self.networks {
            // Half a VAE leaves the other half's tensors.
            let whole = |p: &Part| p.source_folder() != folder || parts.contains(p);
            let half = matches!(folder, "vae" | "clip") && !Part::ALL.iter().all(whole);
            let buffer = |name: &str| BUFFERS.iter().any(|b| name.ends_with(b));
            let mut names = network.weights.unused();
            names.retain(|name| !buffer(name));
            if !half && !names.is_empty() {
                let folder = &self.source.dir.join(folder);
                let names = &names;
                step(report, Event::Unused { folder, names })?;
            }
        }
        Ok(())
    }

    /// Gives every weight file its names in the bundle, and records what it is.
    fn link_weights(
        &self,
        report: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<WeightFile>> {
        let mut files = Vec::new();
        for network in self.networks.values() {
            for source in network.weights.files() {
                files.push((source.as_ref(), network.users.as_slice()));
            }
        }
        let hashes: Vec<fsio::Result<String>> = files
            .par_iter()
            .map(|(source, _)| fsio::sha256(source))
            .collect();
        let mut weights = Vec::new();
        for ((source, users), sha256) in files.into_iter().zip(hashes) {
            let file = self.link(source, users, sha256?)?;
            if file.links.iter().any(|l| l.copied) {
                let bytes = file.bytes;
                step(report, Event::Copied { source, bytes })?;
            }
            weights.push(file);
        }
        Ok(weights)
    }

    fn link(&self, source: &Path, users: &[&str], sha256: String) -> Result<WeightFile> {
        let metadata = stat(source)?;
        let mut links = Vec::new();
        for folder in users {
            let path = format!("{folder}/{}", name_of(source));
            let target = self.dir.join(&path);
            let copied = fsio::link_or_copy(source, &target)? == Linked::Copied;
            links.push(Link {
                path,
                modified: modified(&stat(&target)?),
                copied,
            });
        }
        Ok(WeightFile {
            source: source.to_path_buf(),
            sha256,
            bytes: metadata.len(),
            modified: modified(&metadata),
            links,
        })
    }
}

fn stat(path: &Path) -> Result<fs::Metadata> {
    Ok(path.metadata().map_err(|source| fsio::Error {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Builds the graph of a part from its configuration and weights.
fn build(
    part: Part,
    folder: &Path,
    weights: &Weights,
    options: &graphs::Options,
) -> nets::Result<(Graph, Vec<LoraModule>)> {
    let config = &folder.join("config.json");
    let w = &weights.scope("");
    let unet = |built: UnetGraph| (built.graph, built.lora);
    let plain = |graph: Graph| (graph, Vec::new());
    match part {
        Part::TextEncoder => graphs::text_encoder(&read_config(config)?, w, options).map(plain),
        Part::TextEncoder2 => graphs::text_encoder_2(&read_config(config)?, w, options).map(plain),
        Part::Unet => graphs::unet(&read_config(config)?, w, options).map(unet),
        Part::UnetGrad => graphs::unet_grad(&read_config(config)?, w, options).map(unet),
        Part::VaeDecoder => graphs::vae_decoder(&read_config(config)?, w, options).map(plain),
        Part::VaeEncoder => graphs::vae_encoder(&read_config(config)?, w, options).map(plain),
        Part::Classifier => graphs::classifier(&read_config(config)?, w, options).map(plain),
        Part::ClipText => {
            let config: nets::clip::ClipConfig = read_config(config)?;
            graphs::clip_text(&config.text(), w, options).map(plain)
        }
        Part::ClipVision => {
            let config: nets::clip::ClipConfig = read_config(config)?;
            graphs::clip_vision(&config.vision(), w, options).map(plain)
        }
    }
}

/// Writes a graph and, if it needs one, its file of zeros.
fn write_graph(dir: &Path, part: Part, graph: &Graph, weights: &Weights) -> Result<PartInfo> {
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
        operations: graph.len(),
        parameters: weights.parameters(),
        inputs: inputs.map(|(name, value, _)| port(name, value)).collect(),
        outputs: outputs.map(|(name, value)| port(name, *value)).collect(),
        weights: files
            .map(|f| format!("{}/{}", part.folder(), name_of(f)))
            .collect(),
    })
}
