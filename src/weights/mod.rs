//! Weights as pointers into the files they came in.
//!
//! Exporting a network needs to know where each tensor lies, not what it holds: [`Weights`] reads
//! only the headers of one or more safetensors files, and [`Scope`] hands out [`Tensor`]s (file,
//! offset, length, dtype, shape) by dotted name, checking the shape the network expects. Nothing
//! is loaded until [`Tensor::read_f32`] is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod checkpoint;
mod convert;
pub mod lora;
mod open;
mod safetensors;
mod stored;
mod torch;

pub use crate::base::dtype::DType;
pub(crate) use open::{Chosen, choose, shards, weight_map};
pub use safetensors::{NewTensor, metadata, write_safetensors};

/// Why weights could not be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that should hold weights holds none.
    #[error(
        "no weights in {}: expected model.safetensors, diffusion_pytorch_model.safetensors, \
         their .fp16 variants, an index of shards, or pytorch_model.bin", dir.display()
    )]
    NoWeights {
        /// The folder searched.
        dir: PathBuf,
    },
    /// A file that is not a well-formed safetensors file.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, naming the tensor where one is concerned.
        problem: String,
    },
    /// A torch file whose pickle would do more than describe tensors.
    #[error(
        "{}: its pickle names `{global}`, which describes no tensor; nothing of it was run",
        file.display()
    )]
    Pickle {
        /// The file.
        file: PathBuf,
        /// What it names.
        global: String,
    },
    /// A tensor that the network needs is absent.
    #[error("missing tensor `{key}` {expected:?} in {}", list(files))]
    Missing {
        /// The full dotted name.
        key: String,
        /// The shape that was expected.
        expected: Vec<u64>,
        /// The files searched.
        files: Vec<PathBuf>,
    },
    /// A tensor has another shape than the network's configuration says.
    #[error("tensor `{key}` in {} has shape {found:?}, expected {expected:?}", file.display())]
    Shape {
        /// The full dotted name.
        key: String,
        /// The file it is in.
        file: PathBuf,
        /// The shape that was expected.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// The values of a tensor can't be read as floating-point numbers.
    #[error("tensor `{key}` in {} is of type {dtype}, expected F32, F16, BF16 or F64", file.display())]
    NotFloat {
        /// The full dotted name.
        key: String,
        /// The file it is in.
        file: PathBuf,
        /// Its type.
        dtype: DType,
    },
    /// A number that the type to convert to can't hold.
    #[error("tensor `{key}` in {} holds {value}, which {dtype} can't", file.display())]
    Range {
        /// The full dotted name.
        key: String,
        /// The file it is in.
        file: PathBuf,
        /// The number.
        value: f32,
        /// The type.
        dtype: DType,
    },
    /// A weight folder without the variant that was asked for.
    #[error("no weights of variant `{variant}` in {}", dir.display())]
    NoVariant {
        /// The folder searched.
        dir: PathBuf,
        /// The variant, as `fp16`.
        variant: String,
    },
    /// A file that is no checkpoint in the original code's names.
    #[error(
        "{} is not a single-file checkpoint: none of its {tensors} tensors is named \
         `model.diffusion_model.…`", file.display()
    )]
    NotCheckpoint {
        /// The file.
        file: PathBuf,
        /// How many tensors it has.
        tensors: usize,
    },
    /// A checkpoint of a family that can't be built.
    #[error(
        "{} is a checkpoint of {family} (it has `{key}`), which is not supported; SDXL base and \
         Stable Diffusion 1.x are", file.display()
    )]
    Family {
        /// The file.
        file: PathBuf,
        /// A name that tells.
        key: String,
        /// What it is.
        family: &'static str,
    },
    /// A network that a checkpoint does not hold.
    #[error("{} holds no {network}", file.display())]
    NoNetwork {
        /// The file.
        file: PathBuf,
        /// The network, by diffusers' folder.
        network: String,
    },
    /// One name stands in two files.
    #[error("tensor `{key}` is in both {} and {}", first.display(), second.display())]
    Duplicate {
        /// The full dotted name.
        key: String,
        /// The file that was read first.
        first: PathBuf,
        /// The file that has it again.
        second: PathBuf,
    },
    /// A tensor to be written whose data don't fill its shape.
    #[error("tensor `{key}` {shape:?} needs {expected} bytes but was given {found}")]
    Length {
        /// The tensor's name.
        key: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes its shape and type need.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] crate::fsio::Error),
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Range { .. } => Some("bf16 has fp32's range: --dtype bf16, or --dtype fp32"),
            Error::NoVariant { .. } => {
                Some("leave --variant out to take whichever files are there")
            }
            Error::Pickle { .. } => Some(
                "if you trust the file, load it in torch and save its state dict as safetensors",
            ),
            Error::NotCheckpoint { .. } => {
                Some("to export one network in diffusers' names, give its folder with config.json")
            }
            _ => None,
        }
    }
}

/// Result of reading or writing weights.
pub type Result<T> = std::result::Result<T, Error>;

fn list(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

/// Where a tensor lies: nothing of it is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its full dotted name in the file.
    pub name: String,
    /// The file it is in.
    pub file: Arc<Path>,
    /// Byte offset of its first element from the start of the file.
    pub offset: u64,
    /// Bytes it takes.
    pub len: u64,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The same bytes under another name.
    pub fn renamed(&self, name: String) -> Self {
        Self {
            name,
            ..self.clone()
        }
    }

    /// Part `index` of `count` equal parts of its rows (its first axis), which lie together in the
    /// file; nothing if the rows can't be divided so.
    pub fn rows(&self, index: u64, count: u64) -> Option<Self> {
        let (&rows, rest) = self.shape.split_first()?;
        if count == 0 || index >= count || !rows.is_multiple_of(count) {
            return None;
        }
        let len = self.len / count;
        let shape = std::iter::once(rows / count).chain(rest.iter().copied());
        Some(Self {
            offset: self.offset + index * len,
            len,
            shape: shape.collect(),
            ..self.clone()
        })
    }

    /// Reads its bytes as they are stored (little-endian, row-major).
    pub fn read_bytes(&self) -> Result<Vec<u8>> {
        self.read_as()
    }

    /// Reads its elements as what they are stored as.
    fn read_as<T: bytemuck::Pod>(&self) -> Result<Vec<T>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut values = vec![T::zeroed(); self.len as usize / size_of::<T>()];
        File::open(&self.file)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.offset))?;
                file.read_exact(bytemuck::cast_slice_mut(&mut values))
            })
            .map_err(crate::fsio::at("read", &self.file))?;
        Ok(values)
    }

    /// Reads its values, widened or rounded to fp32. Integer tensors are an error.
    pub fn read_f32(&self) -> Result<Vec<f32>> {
        self.decode(&self.read_bytes()?)
    }

    /// Bytes of its type as fp32.
    fn decode(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        use bytemuck::pod_collect_to_vec as collect;
        use half::slice::HalfFloatSliceExt;
        Ok(match self.dtype {
            DType::F32 => collect(bytes),
            DType::F16 => collect::<_, half::f16>(bytes).to_f32_vec(),
            DType::BF16 => collect::<_, half::bf16>(bytes).to_f32_vec(),
            DType::F64 => collect::<_, f64>(bytes).iter().map(|&v| v as f32).collect(),
            _ => return Err(self.not_float()),
        })
    }

    fn not_float(&self) -> Error {
        Error::NotFloat {
            key: self.name.clone(),
            file: self.file.to_path_buf(),
            dtype: self.dtype,
        }
    }
}

/// Reads a tensor's values as fp32; see [`Tensor::read_f32`].
pub fn read_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.read_f32()
}

/// The tensors of one network, in one or more files.
#[derive(Debug)]
pub struct Weights {
    files: Vec<Arc<Path>>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    tensor: Tensor,
    used: AtomicBool,
}

impl Weights {
    /// The files, in the order they were read.
    pub fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values().map(|e| &e.tensor)
    }

    /// A tensor by its full name, whatever its shape.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let entry = self.tensors.get(name)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(&entry.tensor)
    }

    /// Total number of elements of all floating-point tensors.
    pub fn parameters(&self) -> u64 {
        let float = |t: &&Tensor| t.dtype.is_float();
        self.iter().filter(float).map(Tensor::elements).sum()
    }

    /// Names that nobody has asked for: after building a network, what it did not understand.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self
            .tensors
            .iter()
            .filter(|(_, e)| !e.used.load(Ordering::Relaxed));
        unused.map(|(name, _)| name.as_str()).collect()
    }

    /// A view of the names under `prefix` (empty for all; without a trailing dot).
    pub fn scope(&self, prefix: &str) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: prefix.to_owned(),
        }
    }
}

/// A view of the tensors under one dotted prefix, as candle's `VarBuilder`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The scope one step further down: `scope.pp("down_blocks.0")`.
    pub fn pp(&self, name: impl fmt::Display) -> Scope<'a> {
        Scope {
            weights: self.weights,
            prefix: self.full(&name.to_string()),
        }
    }

    /// The prefix, without a trailing dot.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// The weights this is a view of.
    pub fn weights(&self) -> &'a Weights {
        self.weights
    }

    /// Whether `name` exists here, whatever its shape.
    pub fn contains(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(&self.full(name))
    }

    /// Whether any tensor lies under `name.`.
    pub fn contains_scope(&self, name: &str) -> bool {
        let prefix = format!("{}.", self.full(name));
        let mut after = self.weights.tensors.range(prefix.clone()..);
        after.next().is_some_and(|(k, _)| k.starts_with(&prefix))
    }

    /// The tensor `name`, which must have exactly this shape.
    pub fn get(&self, name: &str, shape: &[u64]) -> Result<Tensor> {
        let key = self.full(name);
        let Some(tensor) = self.weights.tensor(&key) else {
            return Err(Error::Missing {
                key,
                expected: shape.to_vec(),
                files: self.weights.files.iter().map(|f| f.to_path_buf()).collect(),
            });
        };
        if tensor.shape != shape {
            return Err(Error::Shape {
                key,
                file: tensor.file.to_path_buf(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            });
        }
        Ok(tensor.clone())
    }

    fn full(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }
}
