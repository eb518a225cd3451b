//! Graphs that a command makes for itself, of a bundle's configurations and weights.
//!
//! An exported graph takes pictures of any size and number, which costs whoever runs it: nodes that compute
//! sizes, weights turned over when it is loaded, passes over tens of thousands of nodes. Building SDXL's takes
//! less time than reading it back would, so a command builds the one that it runs and keeps no copy. The
//! exported graph says where each weight lies, also where one was merged or converted, or has another name in
//! its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::build;
use super::link::name_of;
use super::manifest::ZEROS;
use super::{Bundle, Error, Part, Result, Target};
use crate::base::fsio;
use crate::family::TIME_IDS;
use crate::family::ports::unet::TIME_IDS as TIME_IDS_PORT;
use crate::graph::{ExternalTensor, Graph, Memory, Operators, external_tensors};
use crate::lora::LoraSpec;
use crate::nets::graphs::{Options, PlannedSizes};
use crate::runtime::{Ep, InMemory, Runtime, Session, SessionOptions};
use crate::tensors::{Tensor, Weights};

/// What a graph is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The operators that what runs it has.
    pub operators: Operators,
    /// Samples at once.
    pub batch: u64,
    /// Height and width of the latents.
    pub latent: [u64; 2],
    /// Tokens of a caption.
    pub tokens: u64,
    /// Whether the UNet takes the bundle's LoRA inputs. The training graph always does.
    pub lora: bool,
    /// Whether blocks are computed again for their gradient.
    pub checkpointing: bool,
    /// Most bytes of a matrix of attention scores.
    pub score_limit: Option<u64>,
}

/// A graph made for one job.
#[derive(Debug)]
pub struct JobGraph {
    part: Part,
    graph: Graph,
    /// The bundle's folder that it points into.
    folder: PathBuf,
    files: Vec<Arc<Path>>,
}

/// The operators of graphs made for a provider: those of a target, or what the provider has.
pub fn operators(target: Option<Target>, ep: Ep) -> Operators {
    match (target, ep) {
        (Some(Target::Plain), _) | (None, Ep::TensorRt) => Operators::Standard,
        (Some(Target::Cuda), _) | (None, Ep::Cuda) => Operators::Cuda,
        (None, Ep::Cpu | Ep::Auto) => Operators::Products,
    }
}

impl Bundle {
    /// Makes a part's graph for one job.
    ///
    /// # Errors
    /// [`Error::NoPart`]; [`Error::Damaged`] for a graph that can't be read; a size that the network can't have.
    pub fn job(&self, part: Part, job: &Job) -> Result<JobGraph> {
        let info = self.part(part)?;
        let weights = self.weights(part)?;
        let name = format!("{}/config.json", part.folder());
        let config = self.json(&name)?;
        let ids = info.inputs.iter().find(|port| port.name == TIME_IDS_PORT);
        let ids = ids.and_then(|port| port.shape.get(1)?.as_u64());
        let lora = match job.lora || part == Part::UnetGrad {
            true => {
                let lora = self.lora()?;
                Some(LoraSpec {
                    rank: lora.rank,
                    targets: lora.targets.clone(),
                })
            }
            false => None,
        };
        let options = Options {
            compute: info.dtype,
            lora,
            time_ids: ids.unwrap_or(TIME_IDS as u64),
            checkpointing: job.checkpointing,
            score_limit: job.score_limit,
            plan: PlannedSizes {
                batch: job.batch,
                latent: job.latent,
                tokens: job.tokens,
            },
            made_for: Some(job.operators),
        };
        let built = build(part, &config, &weights, &options);
        let (graph, _) = built.map_err(|e| Error::network(part, self.dir().join(name), e))?;
        Ok(JobGraph {
            part,
            graph,
            folder: self.dir().join(part.folder()),
            files: weights.files().to_vec(),
        })
    }

    /// The weights of a part, as its exported graph points to them.
    fn weights(&self, part: Part) -> Result<Weights> {
        let info = self.part(part)?;
        let damaged = |problem: String| Error::Damaged {
            dir: self.dir().to_path_buf(),
            file: info.model.clone(),
            problem,
        };
        let model = fsio::read(self.path(part)?)?;
        let found = external_tensors(&model).map_err(|e| damaged(e.to_string()))?;
        let folder = self.dir().join(part.folder());
        let weights = found.into_iter().filter(|t| t.file != ZEROS);
        let mut found: BTreeMap<String, ExternalTensor> =
            weights.map(|t| (t.name.clone(), t)).collect();
        let mut tensors = Vec::with_capacity(found.len());
        while let Some((name, first)) = found.pop_first() {
            let second = other_half(&name).and_then(|name| found.remove(&name));
            tensors.push(tensor(&folder, first, second));
        }
        let mut files: Vec<Arc<Path>> = tensors.iter().map(|t| t.file.clone()).collect();
        files.sort();
        files.dedup();
        Ok(Weights::from_tensors(files, tensors)?)
    }
}

/// The name of the second half of a tensor that a graph takes in two halves (`Params::linear_halves`).
fn other_half(first: &str) -> Option<String> {
    Some(format!("{}.1", first.strip_suffix(".0")?))
}

fn tensor(folder: &Path, first: ExternalTensor, second: Option<ExternalTensor>) -> Tensor {
    let mut shape = first.shape;
    let (mut name, mut len) = (first.name, first.length);
    if let Some(second) = second {
        shape[0] += second.shape.first().copied().unwrap_or_default();
        len += second.length;
        name.truncate(name.len() - ".0".len());
    }
    Tensor {
        name,
        file: folder.join(first.file).into(),
        offset: first.offset,
        len,
        dtype: first.dtype,
        shape,
    }
}

impl JobGraph {
    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// An estimate of what a run of it takes.
    pub fn memory(&self) -> Option<Memory> {
        self.graph.memory(|_| None)
    }

    /// Writes it as `name` into the part's folder in `dir`, with links to the weights that it points to.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let folder = dir.join(self.part.folder());
        fsio::create_dir_all(&folder)?;
        for file in &self.files {
            fsio::link_or_copy(file, &folder.join(name_of(file)))?;
        }
        let onnx = self.graph.to_onnx(name_of, ZEROS);
        let path = folder.join(name);
        fsio::write(&path, &onnx.model)?;
        Ok(path)
    }

    /// Loads it. On CUDA every node must have a kernel there, and none runs on the CPU.
    ///
    /// # Errors
    /// [`Error::NoKernel`] naming operator, node and type; what [`Session::in_memory`] refuses.
    pub fn session(&self, runtime: &Runtime, options: &SessionOptions) -> Result<Session> {
        if options.ep == Ep::Cuda
            && let Some(lack) = self.graph.lacks_on_cuda()
        {
            let part = self.part;
            return Err(Error::NoKernel { part, lack });
        }
        let training = self.part == Part::UnetGrad;
        let options = SessionOptions {
            finished: training && (options.weights_in_place || options.ep == Ep::Cuda),
            one_device: true,
            ..options.clone()
        };
        let onnx = self.graph.to_onnx(name_of, ZEROS);
        let model = InMemory {
            path: &self.folder.join(self.part.file_name()),
            bytes: &onnx.model,
            folder: &self.folder,
        };
        Ok(Session::in_memory(runtime, &model, &options)?)
    }
}
