//! Finding and opening ONNX Runtime's shared library, once per process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::{Error, Result};

/// The opened library and the process's one environment. Cloning it is free.
#[derive(Clone)]
pub struct Runtime {
    env: Environment,
    path: Arc<Path>,
    minor: u32,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ONNX Runtime {} at {}",
            self.version(),
            self.path.display()
        )
    }
}

/// ONNX Runtime allows one environment per process; it lives as long as the process does.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Opens ONNX Runtime; later calls return the same one.
    ///
    /// Looks at `ORT_DYLIB_PATH` (a library or the folder it is in; if set, nowhere else), then in
    /// `.runtime/` in the current folder and beside the executable or any folder above it, then in
    /// the `onnxruntime` package of the `python3` on the path.
    ///
    /// # Errors
    /// [`Error::NoLibrary`] (its [`Error::hint`] names `scripts/setup`), [`Error::WrongPath`],
    /// [`Error::Unloadable`], [`Error::TooOld`].
    pub fn load() -> Result<Self> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = Self::open(&find()?)?;
        tracing::debug!("{runtime:?}");
        Ok(loaded.insert(runtime).clone())
    }

    fn open(path: &Path) -> Result<Self> {
        let unloadable = |reason: String| Error::Unloadable {
            path: path.to_path_buf(),
            reason,
        };
        // `init_from` knows the loader's reason, but the version is asked for first: it tells an
        // old library from a broken one.
        let minor = ort::util::probe(path);
        if let Some(found) = minor.filter(|&m| m < ort::MINOR_VERSION) {
            return Err(Error::TooOld {
                path: path.to_path_buf(),
                found,
                needed: ort::MINOR_VERSION,
            });
        }
        let builder = ort::init_from(path).map_err(|e| unloadable(e.to_string()))?;
        let minor = minor.ok_or_else(|| unloadable("it is not ONNX Runtime 1.x".into()))?;
        let env = builder
            .with_name("popalign")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|e| unloadable(e.to_string()))?;
        env.set_log_level(log_level());
        Ok(Self {
            env,
            path: path.into(),
            minor,
        })
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library's version, as "1.32".
    pub fn version(&self) -> String {
        format!("1.{}", self.minor)
    }

    pub(super) fn env(&self) -> &Environment {
        &self.env
    }
}

/// Hands ONNX Runtime's messages to the log, one level down: whatever stops a command comes back
/// as an error and must not be printed twice.
fn log(level: LogLevel, category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => {
            tracing::warn!(target: "ort", "{message} ({category} {place})");
        }
        LogLevel::Warning => tracing::debug!(target: "ort", "{message} ({category} {place})"),
        _ => tracing::trace!(target: "ort", "{message} ({category} {place})"),
    }
}

/// The level below which ONNX Runtime does not even format its messages. It warns once for every
/// LoRA input of a graph (an overridable initializer), more than a thousand times for SDXL.
pub(super) fn log_level() -> LogLevel {
    if tracing::enabled!(target: "ort", tracing::Level::TRACE) {
        LogLevel::Info
    } else if tracing::enabled!(target: "ort", tracing::Level::DEBUG) {
        LogLevel::Warning
    } else {
        LogLevel::Error
    }
}

/// Where the library is.
fn find() -> Result<PathBuf> {
    if let Some(value) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(value);
        let found = if path.is_dir() {
            newest_in(&path)
        } else {
            path.is_file().then(|| path.clone())
        };
        return found.ok_or(Error::WrongPath { path });
    }
    let mut searched = vec!["ORT_DYLIB_PATH (not set)".to_owned()];
    for dir in runtime_dirs() {
        if let Some(path) = newest_in(&dir) {
            return Ok(path);
        }
        searched.push(dir.display().to_string());
    }
    for dir in site_packages() {
        if let Some(path) = newest_in(&dir.join("onnxruntime/capi")) {
            return Ok(path);
        }
        searched.push(dir.display().to_string());
    }
    Err(Error::NoLibrary { searched })
}

/// `.runtime/` in the current folder, then beside the executable and in the folders above it (a
/// build's executables lie in `target/debug/deps` of the repository).
fn runtime_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::env::current_dir().into_iter().collect();
    if let Ok(exe) = std::env::current_exe() {
        dirs.extend(exe.ancestors().skip(1).take(6).map(Path::to_path_buf));
    }
    let mut dirs: Vec<PathBuf> = dirs.into_iter().map(|d| d.join(".runtime")).collect();
    dirs.dedup();
    dirs
}

/// The package folders of the `python3` on the path; none if there is no Python.
fn site_packages() -> Vec<PathBuf> {
    let script = "import sys; print('\\n'.join(p for p in sys.path if p.endswith('-packages')))";
    match Command::new("python3").args(["-I", "-c", script]).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            text.lines().map(PathBuf::from).collect()
        }
        _ => Vec::new(),
    }
}

/// The library of the highest version in `dir`, if there is one.
fn newest_in(dir: &Path) -> Option<PathBuf> {
    let version = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let rest = name
            .strip_prefix("libonnxruntime.")
            .or_else(|| name.strip_prefix("onnxruntime."))?;
        // "so", "so.1.32.0", "1.32.0.dylib", "dll"
        ["so", "dylib", "dll"]
            .iter()
            .any(|kind| rest.split('.').any(|part| part == *kind))
            .then(|| {
                rest.split('.')
                    .filter_map(|part| part.parse().ok())
                    .collect::<Vec<u32>>()
            })
    };
    let entries = std::fs::read_dir(dir).ok()?;
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let libraries = paths.filter_map(|p| Some((version(&p)?, p)));
    libraries.max().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_library_is_picked_and_others_are_left() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_in(dir.path()), None);
        for name in [
            "libonnxruntime.so.1.9.1",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.txt",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = newest_in(dir.path()).unwrap();
        assert!(found.ends_with("libonnxruntime.so.1.32.0"), "{found:?}");
    }

    #[test]
    fn loading_twice_gives_the_same_library() {
        let (first, second) = (Runtime::load().unwrap(), Runtime::load().unwrap());
        assert_eq!(first.path(), second.path());
        assert!(first.version().starts_with("1."), "{first:?}");
    }
}
