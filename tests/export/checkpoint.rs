//! A tiny checkpoint to export and the command that exports it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::process::{self, stderr};

/// A temporary folder with a checkpoint in it: one of the oracle's random SDXLs, with a classifier,
/// CLIP and the small files a pipeline has.
pub(crate) struct World {
    dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::inside(tempfile::tempdir().unwrap())
    }

    /// In a given folder.
    pub(crate) fn inside(dir: TempDir) -> Self {
        let world = Self { dir };
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nets");
        let mut models: Vec<PathBuf> = fs::read_dir(&fixtures)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        models.sort();
        let both = |p: &&PathBuf| {
            let name = p.file_name().unwrap().to_string_lossy();
            name.starts_with("sdxl") && p.join("text_encoder").is_dir()
        };
        let model = models.iter().find(both).unwrap();
        for part in ["text_encoder", "text_encoder_2", "unet", "vae"] {
            copy(&model.join(part), &world.src().join(part));
        }
        copy(
            &fixtures.join("resnet_basic"),
            &world.src().join("classifier"),
        );
        copy(&fixtures.join("clip"), &world.src().join("clip"));
        let index = r#"{"_class_name": "StableDiffusionXLPipeline"}"#;
        for (name, text) in [
            ("model_index.json", index),
            ("axes.toml", "[template]"),
            ("chain.toml", "name = 'x'"),
            ("prompts/train.csv", "Prompt\ndoctor\n"),
            ("scheduler/scheduler_config.json", "{}"),
            ("tokenizer/vocab.json", "{}"),
            ("tokenizer_2/vocab.json", "{}"),
        ] {
            let path = world.src().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        world
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The checkpoint.
    pub(crate) fn src(&self) -> PathBuf {
        self.dir().join("src")
    }

    /// Where bundles go. Nothing else is written into the folder it is in.
    pub(crate) fn out(&self) -> PathBuf {
        self.dir().join("out/bundle")
    }

    /// The UNet's weight file.
    pub(crate) fn unet_weights(&self) -> PathBuf {
        self.src().join("unet/diffusion_pytorch_model.safetensors")
    }

    /// A JSON file of the checkpoint.
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.src().join(name)).unwrap()).unwrap()
    }

    /// `pa-export` of the checkpoint with more options.
    pub(crate) fn export(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    /// The command that [`World::export`] runs.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = pa_export();
        command
            .arg(self.src())
            .arg("-o")
            .arg(self.out())
            .args(options);
        command
    }

    /// Exports, expecting success.
    pub(crate) fn exported(&self, options: &[&str]) -> PathBuf {
        let output = self.export(options);
        assert!(output.status.success(), "{}", stderr(&output));
        self.out()
    }

    /// Everything in the folder that bundles go to, with hidden names.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let parent = self.out().parent().unwrap().to_path_buf();
        let entries = fs::read_dir(parent).into_iter().flatten();
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

/// The command, where it can't find an ONNX Runtime, which exporting doesn't need, nor the hub.
pub(crate) fn pa_export() -> Command {
    let mut command = process::pa_export();
    command
        .env("ORT_DYLIB_PATH", "/nonexistent")
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "/nonexistent");
    for name in ["HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Copies a folder's files (really: tests write into them).
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("io.safetensors") {
            fs::write(to.join(path.file_name().unwrap()), fs::read(&path).unwrap()).unwrap();
        }
    }
}
