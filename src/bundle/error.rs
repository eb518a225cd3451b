//! What can be wrong with a checkpoint or a bundle.

use std::path::PathBuf;

use super::Part;

/// Why an export failed or a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The checkpoint does not exist.
    #[error("there is no {}, and it is no hub id either", path.display())]
    NoSource {
        /// The path given.
        path: PathBuf,
    },
    /// A graph made for CUDA with an operation that its provider has no kernel for.
    #[error("{part}: ONNX Runtime's CUDA provider has no kernel for {lack}")]
    NoKernel {
        /// The graph.
        part: Part,
        /// The operation.
        lack: crate::graph::Lack,
    },
    /// The checkpoint is not a folder in diffusers' layout.
    #[error(
        "{} is not a model in diffusers' layout: it has no model_index.json and none of the \
         folders {}", path.display(), folders.join("/, ")
    )]
    NotDiffusers {
        /// The folder given.
        path: PathBuf,
        /// The network folders looked for.
        folders: Vec<&'static str>,
    },
    /// A part was asked for that the checkpoint has no network for.
    #[error("{} has no {folder}/config.json, which part {part} is made of", path.display())]
    NoNetwork {
        /// The checkpoint.
        path: PathBuf,
        /// The part asked for.
        part: &'static str,
        /// The folder it would be made of.
        folder: &'static str,
    },
    /// A part was asked for that a single-file checkpoint holds no network for.
    #[error("{} holds no {folder}, which part {part} is made of", path.display())]
    NotInFile {
        /// The checkpoint.
        path: PathBuf,
        /// The part asked for.
        part: &'static str,
        /// The network it would be made of.
        folder: &'static str,
    },
    /// `--base` is neither a folder nor a hub id.
    #[error("--base {} is neither a folder nor a hub id", path.display())]
    NoBase {
        /// What was given.
        path: PathBuf,
    },
    /// A single-file checkpoint without a folder to take its tokenizers from.
    #[error(
        "{} is a single file, which has no {folder}{}", path.display(),
        base.as_ref().map_or(String::new(), |b| format!(", and neither has --base {}", b.display()))
    )]
    NoTokenizer {
        /// The checkpoint.
        path: PathBuf,
        /// The folder that should have had it.
        base: Option<PathBuf>,
        /// The missing folder: `tokenizer` or `tokenizer_2`.
        folder: &'static str,
    },
    /// `--size` is one that the model can't draw.
    #[error("--size {}x{}: width and height must be multiples of {multiple} for this model", size[0], size[1])]
    Size {
        /// Width and height asked for.
        size: [u64; 2],
        /// What both must be multiples of.
        multiple: u64,
    },
    /// What is at the output path is not a bundle, so it is not replaced.
    #[error("{} exists and is not a bundle; it is left as it is", path.display())]
    InTheWay {
        /// The output path.
        path: PathBuf,
    },
    /// Output and checkpoint are the same folder, or one contains the other.
    #[error("the bundle {} and the checkpoint {} must be separate folders", out.display(), source_dir.display())]
    Overlap {
        /// The output path.
        out: PathBuf,
        /// The checkpoint.
        source_dir: PathBuf,
    },
    /// Fused operators in a type that they don't take.
    #[error("--target cuda with --dtype bf16: CUDA's fused operators take fp32 and fp16 only")]
    FusedBf16,
    /// A network can't be built.
    #[error("cannot export {part} from {}", origin.display())]
    Network {
        /// The part.
        part: Part,
        /// The folder or file it is made of.
        origin: PathBuf,
        /// Why not.
        source: Box<crate::nets::Error>,
    },
    /// A single file whose UNet has more than its family's.
    #[error(
        "{}: no UNet of its family has `{name}`: it computes something else, which is not supported",
        file.display()
    )]
    OtherUnet {
        /// The file.
        file: PathBuf,
        /// The tensor, by diffusers' name.
        name: String,
    },
    /// The export was interrupted; what was there before is untouched.
    #[error("interrupted")]
    Interrupted,
    /// A folder without a readable `bundle.json`.
    #[error("{} is not a bundle: {problem}", dir.display())]
    NotABundle {
        /// The folder.
        dir: PathBuf,
        /// What is missing or malformed.
        problem: String,
    },
    /// A bundle of another format.
    #[error("{} is a bundle of format {found}; this version reads format {expected}", dir.display())]
    Version {
        /// The bundle.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The format read.
        expected: u32,
    },
    /// A file of the bundle is missing or not what was exported.
    #[error("bundle {}: {file} {problem}", dir.display())]
    Damaged {
        /// The bundle.
        dir: PathBuf,
        /// The file within it.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The weights that a bundle was made of are not where they were.
    #[error("bundle {}: its source weights {} were moved or removed", dir.display(), path.display())]
    SourceMoved {
        /// The bundle.
        dir: PathBuf,
        /// Where the weights were.
        path: PathBuf,
    },
    /// The weights that a bundle was made of were changed since.
    #[error("bundle {}: its source weights {} were changed since the export", dir.display(), path.display())]
    SourceChanged {
        /// The bundle.
        dir: PathBuf,
        /// The weights.
        path: PathBuf,
    },
    /// A part that the bundle was exported without.
    #[error("bundle {} has no {part}; it has {}", dir.display(), names(has))]
    NoPart {
        /// The bundle.
        dir: PathBuf,
        /// The part asked for.
        part: Part,
        /// The parts it has.
        has: Vec<Part>,
    },
    /// A bundle whose graphs take no LoRA.
    #[error("bundle {} takes no LoRA: it has neither unet nor unet_grad", dir.display())]
    NoLora {
        /// The bundle.
        dir: PathBuf,
    },
    /// A JSON file that is not JSON.
    #[error(transparent)]
    Json(#[from] crate::base::json::Error),
    /// Weights that can't be pointed at.
    #[error(transparent)]
    Weights(#[from] crate::tensors::Error),
    /// A single file that is no checkpoint of a family that can be built.
    #[error(transparent)]
    Family(#[from] crate::family::Error),
    /// A noise schedule that nothing here could draw or train with.
    #[error(transparent)]
    Schedule(#[from] crate::family::schedule::Error),
    /// An adapter that can't be read or doesn't fit.
    #[error("cannot merge {}", file.display())]
    Lora {
        /// The adapter, or the network that it should be merged into.
        file: PathBuf,
        /// Why not.
        source: Box<crate::lora::Error>,
    },
    /// An adapter of a network that is not exported.
    #[error("{} changes {network}, which is not among the exported parts", file.display())]
    LoraNetwork {
        /// The adapter.
        file: PathBuf,
        /// The network, by its folder in diffusers' layout.
        network: &'static str,
    },
    /// A graph that the execution provider has no kernels for.
    #[error(
        "bundle {}: {part} computes with {what}, for which ONNX Runtime's {ep} provider has no kernels",
        dir.display()
    )]
    NoKernels {
        /// The bundle.
        dir: PathBuf,
        /// The part.
        part: Part,
        /// What it computes with: "bf16" or "fused operators for CUDA".
        what: &'static str,
        /// The provider.
        ep: crate::runtime::Ep,
    },
    /// A model of the hub that can't be had.
    #[error("cannot take {id} from the hub")]
    Hub {
        /// What was asked for.
        id: String,
        /// Why not.
        source: crate::hub::Error,
    },
    /// ONNX Runtime refused a graph.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] crate::base::fsio::Error),
}

fn names(parts: &[Part]) -> String {
    let names: Vec<&str> = parts.iter().map(|p| p.name()).collect();
    names.join(", ")
}

impl Error {
    /// A network that can't be built.
    pub(super) fn network(part: Part, origin: PathBuf, source: crate::nets::Error) -> Self {
        Self::Network {
            part,
            origin,
            source: Box::new(source),
        }
    }

    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NoTokenizer { .. } => Some(
                "give --base DIR, a diffusers folder of the same family (its tokenizers are enough)",
            ),
            Error::NoNetwork { .. } | Error::NotInFile { .. } => {
                Some("--base DIR takes what is missing from a diffusers folder")
            }
            Error::FusedBf16 => {
                Some("take --dtype fp16, or --target plain, whose bf16 graphs run on CUDA too")
            }
            Error::NoSource { .. } | Error::NoBase { .. } => Some(
                "give a folder, a checkpoint file, or a hub id: org/name, org/name@revision, or \
                 org/name/file.safetensors",
            ),
            Error::Hub { source, .. } => source.hint(),
            Error::Weights(error) => error.hint(),
            Error::Family(error) => error.hint(),
            Error::NotABundle { .. } => Some("make one with: pa-export MODEL_FOLDER -o BUNDLE"),
            Error::InTheWay { .. } => Some("choose another -o, or remove it yourself"),
            Error::Version { .. } | Error::Damaged { .. } | Error::SourceChanged { .. } => {
                Some("run pa-export again with the same -o; it replaces the bundle")
            }
            Error::SourceMoved { .. } => Some(
                "put the weights back, or run pa-export on their new place; with --detached a \
                 bundle does not depend on them",
            ),
            Error::NoPart { .. } | Error::NoLora { .. } => {
                Some("run pa-export again with that part in --parts (and without --no-grad)")
            }
            Error::NoKernels { what, .. } if *what != "bf16" => Some(
                "run it with --ep cuda, or export again with --target plain, which runs everywhere",
            ),
            Error::NoKernels { .. } => {
                Some("run it with --ep cuda or --trt, or export again with --dtype fp32 or fp16")
            }
            Error::Runtime(error) => error.hint(),
            _ => None,
        }
    }
}

/// Result of exporting or opening a bundle.
pub type Result<T> = std::result::Result<T, Error>;
