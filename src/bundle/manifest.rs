//! `bundle.json`: what a bundle holds and what it was made of.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::{Error, Part, Result, Target};
use crate::base::fsio::Linked;
use crate::base::{fsio, json};
use crate::graph::DType;
use crate::lora::LoraModule;

/// The manifest's file name.
pub const MANIFEST: &str = "bundle.json";
/// The file of zeros that LoRA inputs take their defaults from, beside a graph that has some.
pub(super) const ZEROS: &str = "zeros.bin";
/// The format written and read.
pub(super) const FORMAT: u32 = 1;

/// Everything `bundle.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// Format of this file; 1.
    pub format: u32,
    /// Version of popalign that wrote it.
    pub popalign: String,
    /// Class in `model_index.json`, as `StableDiffusionXLPipeline`.
    pub pipeline: Option<String>,
    /// The checkpoint's folder or file, absolute.
    pub source: PathBuf,
    /// The folder that completed it, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Whether the bundle may outlive the checkpoint: its files' places are then not checked.
    pub detached: bool,
    /// Type of activations that was asked for: `fp32`, `fp16` or `bf16`.
    pub dtype: String,
    /// Operators that were asked for.
    pub target: Target,
    /// The graphs.
    pub parts: BTreeMap<Part, PartInfo>,
    /// The weight files that the graphs point into.
    pub weights: Vec<WeightFile>,
    /// The LoRA inputs of `unet` and `unet_grad`.
    pub lora: Option<LoraInfo>,
    /// The adapters that were added to the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<Merged>,
    /// The weights that were written in another type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub converted: Vec<Converted>,
    /// Whether `unet_grad` computes its blocks again for their gradient; graphs made for a run do so too then,
    /// unless that is said otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_limit: Option<u64>,
    /// Files copied from the checkpoint and their sha256, by path within the bundle.
    pub files: BTreeMap<String, String>,
}

/// One graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartInfo {
    /// The model file within the bundle.
    pub model: String,
    /// Its sha256.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Type of its activations; that asked for, or f32 where half precision does not do.
    #[serde(default = "single")]
    pub dtype: DType,
    /// Operators it is written with; plain where fused ones don't pay.
    #[serde(default)]
    pub target: Target,
    /// Number of operations.
    pub operations: usize,
    /// Number of parameters of the network it was made of (both halves, for a VAE or CLIP).
    pub parameters: u64,
    /// Inputs without a default.
    pub inputs: Vec<Port>,
    /// Outputs; those of `unet_grad` without its `grad.*`, which follow from [`BundleManifest::lora`].
    pub outputs: Vec<Port>,
    /// The weight files it points into, within the bundle.
    pub weights: Vec<String>,
}

/// The type of bundles of before there was a choice.
fn single() -> DType {
    DType::F32
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Element type: `f32`, `f16`, `bf16`, `i64` …
    pub dtype: DType,
    /// Dimensions: numbers, or products of names such as `"height/8"`.
    pub shape: Vec<serde_json::Value>,
}

impl Port {
    /// Whether an array of this shape may be fed.
    pub fn accepts(&self, shape: &[usize]) -> bool {
        let fits = |(dim, &size): (&serde_json::Value, &usize)| {
            dim.as_u64().is_none_or(|n| n == size as u64)
        };
        self.shape.len() == shape.len() && self.shape.iter().zip(shape).all(fits)
    }

    /// The dimensions as text: `[?, 4, ?, ?]`.
    pub fn shape_text(&self) -> String {
        let dim = |d: &serde_json::Value| d.as_u64().map_or("?".to_owned(), |n| n.to_string());
        format!(
            "[{}]",
            self.shape.iter().map(dim).collect::<Vec<_>>().join(", ")
        )
    }
}

/// One weight file that graphs point into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightFile {
    /// Where it is, absolute; nothing for a file that the export wrote itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// What it held at the time of the export.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: u64,
    /// Its names in the bundle.
    pub links: Vec<Link>,
}

/// One name of a weight file in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Path within the bundle.
    pub path: String,
    /// When it was last written, in nanoseconds since 1970; the source's time for a hard link.
    pub modified: u64,
    /// Whether the bytes were copied (another file system, `--copy`).
    pub copied: bool,
    /// Whether it shares the source's blocks, as a file of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reflink: bool,
}

impl Link {
    /// How the file stands in the bundle now, by what the disk says of it: who copies a bundle makes
    /// files of hard links, and a second name can be given at any time.
    pub(super) fn stands(&self, metadata: &Metadata) -> Linked {
        if has_other_names(metadata) {
            Linked::Hard
        } else if self.reflink {
            Linked::Reflink
        } else {
            Linked::Copied
        }
    }
}

#[cfg(unix)]
fn has_other_names(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    metadata.nlink() > 1
}

/// Here the standard library doesn't tell.
#[cfg(not(unix))]
fn has_other_names(_: &Metadata) -> bool {
    false
}

/// A network's weights that were written in another type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// The new file within the bundle.
    pub file: String,
    /// The type.
    pub dtype: DType,
    /// How many tensors it holds.
    pub tensors: usize,
}

/// An adapter that was added to the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// Where it was, as it was given.
    pub file: PathBuf,
    /// What it was multiplied by.
    pub scale: f32,
    /// How many weights of each network changed.
    pub weights: BTreeMap<String, usize>,
}

/// The LoRA inputs of `unet` and `unet_grad`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraInfo {
    /// Rank of the factors; adapters of lower rank are padded with zeros.
    pub rank: u64,
    /// The module names that were asked for.
    pub targets: Vec<String>,
    /// The layers, in the order of the graph's inputs.
    pub modules: Vec<LoraModule>,
}

impl BundleManifest {
    /// Reads `dir/bundle.json`.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let not = |problem: String| Error::NotABundle {
            dir: dir.to_path_buf(),
            problem,
        };
        let path = dir.join(MANIFEST);
        if !dir.is_dir() {
            return Err(not("there is no such folder".into()));
        }
        if !path.is_file() {
            return Err(not(format!("it has no {MANIFEST}")));
        }
        let text = fsio::read_to_string(&path)?;
        // The format first: a later one may have other fields.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let malformed = |e: serde_json::Error| not(format!("{MANIFEST} is malformed: {e}"));
        let Format { format: found } = serde_json::from_str(&text).map_err(malformed)?;
        if found != FORMAT {
            return Err(Error::Version {
                dir: dir.to_path_buf(),
                found,
                expected: FORMAT,
            });
        }
        serde_json::from_str(&text).map_err(malformed)
    }

    /// Writes `dir/bundle.json`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        Ok(json::write(
            &dir.join(MANIFEST),
            "a bundle's manifest",
            self,
        )?)
    }
}

/// When a file was last written, in nanoseconds since 1970; 0 where the system doesn't say.
pub(super) fn modified(metadata: &Metadata) -> u64 {
    let time = metadata.modified().ok();
    let since = time.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
