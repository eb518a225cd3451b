//! Bundles to draw with and the command that draws.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, stderr};

/// A bundle and the fixture it was made of.
pub(crate) struct Model {
    /// `tests/fixtures/pipeline/NAME`.
    pub(crate) fixture: PathBuf,
    /// The checkpoint.
    pub(crate) source: PathBuf,
    pub(crate) bundle: PathBuf,
}

/// A tiny random SDXL, with the demo world's axes, said in letters, and classifier chain.
pub(crate) static SDXL: LazyLock<Model> = LazyLock::new(|| tiny("sdxl", "sdxl_3"));
/// A tiny random SD 1.5.
pub(crate) static SD15: LazyLock<Model> = LazyLock::new(|| tiny("sd15", "sd15_2"));
/// The model that ships.
pub(crate) static DEMO: LazyLock<Model> = LazyLock::new(|| {
    let source = root().join("models/demo");
    Model::export("demo", source, &["--no-grad"])
});

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The networks of `tests/fixtures/nets/NETWORKS` with the small files of a pipeline's fixture.
fn tiny(name: &str, networks: &str) -> Model {
    let source = scratch(name).join("source");
    assemble(&source, name, networks);
    Model::export(name, source, &["--no-grad"])
}

/// The tiny model of that name with other values of its scheduler's keys.
pub(crate) fn rescheduled(name: &str, changes: &serde_json::Map<String, Value>) -> Model {
    let networks = [("sdxl", "sdxl_3"), ("sd15", "sd15_2")];
    let (_, networks) = networks.into_iter().find(|(n, _)| *n == name).unwrap();
    let place = format!("{name}-rescheduled");
    let source = scratch(&place).join("source");
    assemble(&source, name, networks);
    let path = source.join("scheduler/scheduler_config.json");
    let mut config = json(&path);
    config.as_object_mut().unwrap().extend(changes.clone());
    fs::write(&path, config.to_string()).unwrap();
    Model::export(&place, source, &["--no-grad"])
}

/// Writes such a checkpoint.
pub(crate) fn assemble(source: &Path, name: &str, networks: &str) {
    let fixtures = root().join("tests/fixtures");
    copy(&fixtures.join("pipeline").join(name), source);
    copy(&fixtures.join("nets").join(networks), source);
    let demo = root().join("models/demo");
    copy(&demo.join("classifier"), &source.join("classifier"));
    fs::copy(demo.join("chain.toml"), source.join("chain.toml")).unwrap();
    fs::copy(
        fixtures.join("pipeline/axes.toml"),
        source.join("axes.toml"),
    )
    .unwrap();
}

/// A folder of this test binary.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("datagen")
        .join(name)
}

impl Model {
    pub(crate) fn export(name: &str, source: PathBuf, options: &[&str]) -> Self {
        let bundle = scratch(name).join("bundle");
        let mut command = process::pa_export();
        command.arg(&source).arg("-o").arg(&bundle);
        let output = command.args(options).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        Self {
            fixture: root().join("tests/fixtures/pipeline").join(name),
            source,
            bundle,
        }
    }
}

/// Copies a folder, except what only the oracle's tests read.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if !path.ends_with("io.safetensors") && !path.ends_with("latents.safetensors") {
            fs::write(target, fs::read(&path).unwrap()).unwrap();
        }
    }
}

/// A run of `pa-datagen` in a temporary folder.
pub(crate) struct World {
    dir: TempDir,
    bundle: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl World {
    /// With the prompts `prompts.csv`.
    pub(crate) fn new(model: &Model, prompts: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quoted: Vec<String> = prompts.iter().map(|p| format!("\"{p}\"\n")).collect();
        let csv = format!("Prompt\n{}", quoted.concat());
        fs::write(dir.path().join("prompts.csv"), csv).unwrap();
        Self {
            dir,
            bundle: model.bundle.clone(),
            environment: Vec::new(),
        }
    }

    /// The same with variables for every command.
    pub(crate) fn with(self, environment: Vec<(&'static str, String)>) -> Self {
        Self {
            environment,
            ..self
        }
    }

    /// A command in the folder, with the variables.
    pub(crate) fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        command.current_dir(self.dir.path()).envs(variables)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command, writing into `out`, a folder's name or a URL, on the CPU.
    pub(crate) fn command(&self, out: &str, options: &[&str]) -> Command {
        let mut command = process::pa_datagen();
        let out = match out.contains(":/") {
            true => PathBuf::from(out),
            false => self.path(out),
        };
        self.within(&mut command)
            .args(["--ep", "cpu", "--model"])
            .arg(&self.bundle)
            .arg("--prompts")
            .arg(self.path("prompts.csv"))
            .arg("--out")
            .arg(out)
            .args(options);
        command
    }

    /// Runs it to the end.
    pub(crate) fn run(&self, out: &str, options: &[&str]) -> Output {
        self.command(out, options).output().unwrap()
    }

    /// The pictures of a run, by name.
    pub(crate) fn drawn(&self, options: &[&str]) -> BTreeMap<String, image::RgbImage> {
        let images = listing(&self.done("drawn", options).join("images")).into_iter();
        images
            .map(|(name, bytes)| (name, image::load_from_memory(&bytes).unwrap().into_rgb8()))
            .collect()
    }

    /// Runs it, expecting success.
    #[track_caller]
    pub(crate) fn done(&self, out: &str, options: &[&str]) -> PathBuf {
        let output = self.run(out, options);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        self.path(out)
    }
}

/// Every file under a folder.
pub(crate) fn listing(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            for (inner, bytes) in listing(&path) {
                files.insert(format!("{name}/{inner}"), bytes);
            }
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// Asserts that two data sets are the same to the byte.
#[track_caller]
pub(crate) fn same(a: &Path, b: &Path) {
    let (a, b) = (listing(a), listing(b));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

/// The same of a folder's set, which has a lock, and the objects of a set in a store, which has none.
#[track_caller]
pub(crate) fn same_objects(folder: &Path, objects: &Path) {
    let (mut folder, objects) = (listing(folder), listing(objects));
    assert_eq!(folder.remove(".lock"), Some(Vec::new()));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&folder), names(&objects));
    for (name, bytes) in &folder {
        assert!(bytes == &objects[name], "{name} differs");
    }
}

pub(crate) fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
