//! Why tensors could not be found, read or written.

use std::path::PathBuf;

use super::DType;

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
    /// A file that was to be mapped, and is cut short or no safetensors file.
    #[error("{} is not a whole safetensors file", file.display())]
    NotWhole {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A mapped file without a tensor that it must have.
    #[error("{} has no tensor `{key}`", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
        /// The tensor.
        key: String,
    },
    /// A tensor of a mapped file that is of another type or shape than it must have.
    #[error("{}: `{key}` is {problem}", file.display())]
    Unexpected {
        /// The file.
        file: PathBuf,
        /// The tensor.
        key: String,
        /// Its type and shape, and what was expected.
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
    Io(#[from] crate::base::fsio::Error),
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
            _ => None,
        }
    }
}

/// Result of reading or writing weights.
pub type Result<T> = std::result::Result<T, Error>;

/// Paths, one after another.
pub(crate) fn list(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}
