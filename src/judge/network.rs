//! Networks built over weight files that are the user's own and stay where they are.

use std::path::Path;
use std::sync::Arc;

use super::error::{Error, Result};
use crate::base::fsio;
use crate::graph::Graph;
use crate::runtime::{InMemory, Runtime, Session, SessionOptions};
use crate::tensors::{Tensor, Weights};

/// The same weights by the files' real places: a cache of the hub's has links, which ONNX Runtime doesn't
/// follow. `renamed` gives each tensor the names that networks know it by.
///
/// # Errors
/// A file can't be found, or files that lie in several folders; two tensors of one name.
pub(super) fn resolved(
    weights: &Weights,
    renamed: impl Fn(&Tensor) -> Vec<Tensor>,
) -> Result<Weights> {
    let mut files: Vec<(Arc<Path>, Arc<Path>)> = Vec::new();
    for file in weights.files() {
        let real = file.canonicalize().map_err(fsio::at("find", file))?;
        files.push((Arc::clone(file), real.into()));
    }
    if let [(first, place), rest @ ..] = &files[..]
        && let Some((other, _)) = rest.iter().find(|(_, p)| p.parent() != place.parent())
    {
        return Err(Error::Published {
            path: first.to_path_buf(),
            problem: format!(
                "it and {} really lie in different folders; expected the parts of one network together",
                other.display()
            ),
        });
    }
    let real = |file: &Arc<Path>| {
        let found = files.iter().find(|(named, _)| named == file);
        found.map_or_else(|| Arc::clone(file), |(_, real)| Arc::clone(real))
    };
    let tensors = weights.iter().flat_map(|tensor| {
        let file = real(&tensor.file);
        renamed(tensor).into_iter().map(move |named| Tensor {
            file: Arc::clone(&file),
            ..named
        })
    });
    let real = files.iter().map(|(_, real)| Arc::clone(real)).collect();
    Ok(Weights::from_tensors(real, tensors)?)
}

/// Loads a graph over weights that [`resolved`] made.
///
/// # Errors
/// What [`Session::in_memory`] refuses.
pub(super) fn open(
    runtime: &Runtime,
    graph: &Graph,
    weights: &Weights,
    options: &SessionOptions,
) -> Result<Session> {
    let shown = weights.files().first().map_or(Path::new(""), |f| f);
    let name = |file: &Path| {
        let name = file.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    // Nothing in it is a file of zeros: those are of LoRA inputs.
    let onnx = graph.to_onnx(name, "");
    let model = InMemory {
        path: shown,
        bytes: &onnx.model,
        folder: shown.parent().unwrap_or(Path::new("")),
    };
    Ok(Session::in_memory(runtime, &model, options)?)
}
