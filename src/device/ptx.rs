//! Where a kernel's PTX comes from.
//!
//! NVRTC compiles for the very GPU, in 50 ms or so a source; what it makes is kept in the user's cache
//! folder under everything it depends on. Where NVRTC is missing, or newer than the driver, which
//! then does not know its PTX, the one in the executable serves: the driver translates it for any
//! GPU from sm_75 on.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::sources::{Source, nvrtc_version};
use crate::base::cache::user_cache;
use crate::base::fsio;

/// Gives each source's PTX on this machine.
#[derive(Debug, Clone)]
pub struct Compiler {
    nvrtc: Option<i32>,
    driver: i32,
    cache: PathBuf,
}

impl Compiler {
    /// Looks for NVRTC. `driver` is the newest CUDA version that the driver knows, as it writes it.
    pub fn find(driver: i32) -> Self {
        let nvrtc = match nvrtc_version() {
            Ok(version) if version <= driver => Some(version),
            Ok(version) => {
                tracing::debug!("NVRTC {version} is newer than the driver's CUDA {driver}");
                None
            }
            Err(missing) => {
                tracing::debug!("{missing}");
                None
            }
        };
        Self {
            nvrtc,
            driver,
            cache: user_cache("kernels"),
        }
    }

    /// A source's PTX for an architecture such as `sm_80`.
    ///
    /// # Errors
    /// [`Error::Compile`].
    pub fn ptx(&self, source: &Source, arch: &'static str) -> Result<String, Error> {
        let Some(nvrtc) = self.nvrtc else {
            return Ok(source.prebuilt.to_owned());
        };
        let parts = [
            source.hash(),
            arch.to_owned(),
            format!("nvrtc {nvrtc}"),
            format!("driver {}", self.driver),
            env!("CARGO_PKG_VERSION").to_owned(),
        ];
        let name = fsio::sha256_bytes(parts.join("\n").as_bytes());
        cached(&self.cache.join(format!("{name}.ptx")), || {
            source.compile(arch)
        })
    }
}

/// What the first line of a kept file begins with; the SHA-256 of the rest follows.
const MARK: &str = "// sha256 ";

/// The text kept in a file, if it is what was written there; otherwise made, and kept if possible.
fn cached(path: &Path, make: impl FnOnce() -> Result<String, Error>) -> Result<String, Error> {
    if let Some(text) = kept(path) {
        return Ok(text);
    }
    let text = make()?;
    let line = format!("{MARK}{}\n", fsio::sha256_bytes(text.as_bytes()));
    let written = fsio::create_dir_all(path.parent().unwrap_or(Path::new(".")))
        .and_then(|()| fsio::write(path, line + &text));
    if let Err(error) = written {
        tracing::debug!("the compiled kernel is not kept: {error}: {}", error.source);
    }
    Ok(text)
}

fn kept(path: &Path) -> Option<String> {
    let whole = fsio::read_to_string(path).ok()?;
    let (line, text) = whole.split_once('\n')?;
    let hash = line.strip_prefix(MARK)?;
    (fsio::sha256_bytes(text.as_bytes()) == hash).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::sources::SOURCES;

    fn make(text: &str) -> Result<String, Error> {
        Ok(text.to_owned())
    }

    fn never() -> Result<String, Error> {
        panic!("it is there already")
    }

    #[test]
    fn what_is_kept_is_used_and_what_is_broken_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernels/a.ptx");
        assert_eq!(cached(&path, || make("one\ntwo\n")).unwrap(), "one\ntwo\n");
        assert_eq!(cached(&path, never).unwrap(), "one\ntwo\n");
        let whole = std::fs::read_to_string(&path).unwrap();
        for broken in [
            String::new(),
            whole.replace("two", "owt"),
            whole[..whole.len() - 1].to_owned(),
            whole.replace(MARK, "// "),
            "\u{0}\u{1}".to_owned(),
        ] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(cached(&path, || make("one\ntwo\n")).unwrap(), "one\ntwo\n");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(cached(&path, || make("three")).unwrap(), "three");
    }

    #[test]
    fn a_folder_that_takes_no_file_costs_only_the_keeping() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(cached(&file.join("a.ptx"), || make("x")).unwrap(), "x");
        let error = Error::Unavailable {
            reason: "a reason".to_owned(),
        };
        assert!(cached(&file.join("b.ptx"), || Err(error)).is_err());
    }

    #[test]
    fn without_a_compiler_the_executable_s_own_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let compiler = Compiler {
            nvrtc: None,
            driver: 12_000,
            cache: dir.path().to_path_buf(),
        };
        for source in SOURCES {
            let ptx = compiler.ptx(source, "sm_90").unwrap();
            assert_eq!(ptx, source.prebuilt);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // No driver is older than every NVRTC: none of them is used.
        assert_eq!(Compiler::find(0).nvrtc, None);
    }

    #[test]
    fn nvrtc_s_work_is_kept_by_all_it_depends_on() {
        let Ok(version) = nvrtc_version() else {
            eprintln!("NOT CHECKED: NVRTC's work in the cache: there is no NVRTC");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut compiler = Compiler {
            nvrtc: Some(version),
            driver: version,
            cache: dir.path().to_path_buf(),
        };
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        let first = compiler.ptx(&SOURCES[0], "sm_80").unwrap();
        assert_eq!(
            (compiler.ptx(&SOURCES[0], "sm_80").unwrap(), count()),
            (first, 1)
        );
        compiler.ptx(&SOURCES[0], "sm_90").unwrap();
        compiler.ptx(&SOURCES[1], "sm_80").unwrap();
        compiler.driver += 10;
        compiler.ptx(&SOURCES[0], "sm_80").unwrap();
        assert_eq!(count(), 4);
    }
}
