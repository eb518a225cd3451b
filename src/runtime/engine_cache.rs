//! Where TensorRT's engines are kept.
//!
//! TensorRT's provider names an engine after the model's file name, its inputs and node names, the
//! versions — but not its weights. Two `unet/model.onnx` sharing one folder, one with a LoRA merged
//! into it, would silently run the same engine. So every content has a folder of its own.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Result, Runtime, SessionOptions, providers};
use crate::base::cache::user_cache;
use crate::base::fsio;

/// The engine folder for a model under these options, created if it is not there.
pub(super) fn folder(runtime: &Runtime, model: &Path, options: &SessionOptions) -> Result<PathBuf> {
    let root = match &options.tensorrt.engine_cache {
        Some(root) => root.clone(),
        None => user_cache("engines"),
    };
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&fsio::sha256(model)?);
    match &options.weights_hash {
        Some(known) => part(known),
        None => external_files(model)?.iter().try_for_each(|file| {
            part(&fsio::sha256(file)?);
            Ok::<_, super::Error>(())
        })?,
    }
    part(&runtime.path().display().to_string());
    part(&runtime.version());
    part(&providers::device_identity(options.device));
    part(&format!(
        "{:?}",
        (options.tensorrt.fp16, &options.tensorrt.profile)
    ));
    let key = fsio::hex(&hash.finalize()[..16]);
    let folder = root.join(key);
    fsio::create_dir_all(&folder)?;
    // ONNX Runtime takes the path as it is; a relative one would mean another folder elsewhere.
    Ok(std::path::absolute(&folder).unwrap_or(folder))
}

/// The files beside a model that can hold its weights, in a fixed order.
fn external_files(model: &Path) -> Result<Vec<PathBuf>> {
    let dir = model.parent().unwrap_or(Path::new("."));
    let failed = fsio::at("read", dir);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && path != model && path.extension().is_none_or(|e| e != "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_weights_under_the_same_model_get_another_folder() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::load().unwrap();
        let mut options = SessionOptions::default();
        options.tensorrt.engine_cache = Some(dir.path().join("engines"));
        let model = dir.path().join("model.onnx");
        std::fs::write(&model, "graph").unwrap();
        std::fs::write(dir.path().join("model.safetensors"), "base").unwrap();
        let base = folder(&runtime, &model, &options).unwrap();
        assert_eq!(folder(&runtime, &model, &options).unwrap(), base);
        std::fs::write(dir.path().join("model.safetensors"), "merged").unwrap();
        let merged = folder(&runtime, &model, &options).unwrap();
        assert_ne!(merged, base);
        options.tensorrt.fp16 = true;
        assert_ne!(folder(&runtime, &model, &options).unwrap(), merged);
        options.weights_hash = Some("known".into());
        assert_ne!(folder(&runtime, &model, &options).unwrap(), merged);
    }
}
