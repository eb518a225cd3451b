//! Models on the Hugging Face hub: what an id means, and the files of a repository in the cache.
//!
//! The cache is the one that Python's `huggingface_hub` and every tool on top of it share: what
//! they have fetched isn't fetched again, nor the other way round. Its folders are named by the
//! `hf-hub` crate; the transfer is our own (`fetch`), because that crate's resumes at the wrong
//! byte after a second cut, doesn't notice a server that ignores ranges, checks neither length nor
//! hash, and can't be interrupted.

use std::path::{Path, PathBuf};

mod error;
mod fetch;
mod remote;

pub use error::{Error, Result};
pub use remote::{Progress, Remote};

/// Where the hub is, unless HF_ENDPOINT says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// The revision of an id that names none.
const MAIN: &str = "main";
/// What the names of weight files end with: `folder/model.safetensors` is no repository.
const WEIGHT_FILES: [&str; 5] = ["safetensors", "ckpt", "pth", "pt", "bin"];

/// A repository of the hub, or one file in it: `org/name`, `org/name@revision`,
/// `org/name/file.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// `org/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A checkpoint within the repository.
    pub file: Option<String>,
}

impl Id {
    /// Understands an id; nothing if it can't be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, revision),
            None => (text, MAIN),
        };
        let mut parts = path.splitn(3, '/');
        let (org, name, file) = (parts.next()?, parts.next()?, parts.next());
        let repo = format!("{org}/{name}");
        let named = [org, name].iter().all(|part| is_name(part)) && repo.len() <= 96;
        let file_is_one = file.map_or(!is_weight_file(name), |f| is_path(f) && is_weight_file(f));
        let sound = named && file_is_one && is_path(revision);
        sound.then(|| Self {
            repo,
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// The repository whose file or folder a path in the cache is, by the cache's names
/// (`models--org--name/snapshots/…`).
pub fn repository_of(path: &Path) -> Option<String> {
    let parts = path.iter().filter_map(|part| part.to_str());
    let mut names = parts.filter_map(|part| part.strip_prefix("models--"));
    let repo = names.next_back()?.replacen("--", "/", 1);
    Id::parse(&repo).map(|id| id.repo)
}

/// The folder in a cache of the main revision of a repository (`org/name`), as far as its files were
/// fetched; nothing if none was.
pub fn snapshot(cache: &Path, repo: &str) -> Option<PathBuf> {
    let folder = cache.join(format!("models--{}", repo.replace('/', "--")));
    let commit = std::fs::read_to_string(folder.join("refs").join(MAIN)).ok()?;
    let commit = Some(commit.trim()).filter(|c| is_name(c))?;
    let found = folder.join("snapshots").join(commit);
    found.is_dir().then_some(found)
}

/// Whether this can be the name of a repository or of its owner, by the hub's rules.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| matches!(c, '-' | '.');
    !text.is_empty()
        && text.chars().all(plain)
        && !text.starts_with(edge)
        && !text.ends_with(edge)
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether this is a path of plain names that stays below the folder it is joined to.
fn is_path(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !matches!(c, '\\' | ':' | '?' | '#' | '%');
    text.chars().all(plain) && text.split('/').all(|s| !matches!(s, "" | "." | ".."))
}

fn is_weight_file(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| WEIGHT_FILES.contains(&e))
}

/// How to reach the hub and where its cache is, as the environment says.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Without a slash at the end.
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    /// The cache's folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Reads HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE, as
    /// Python's `huggingface_hub` does.
    ///
    /// # Errors
    /// [`Error::NoHome`] if nothing says where the cache is.
    pub fn from_env() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name| set(name).and_then(|v| v.into_string().ok());
        let cache_home = || {
            let xdg = set("XDG_CACHE_HOME").map(PathBuf::from);
            Some(
                xdg.or_else(|| Some(std::env::home_dir()?.join(".cache")))?
                    .join("huggingface"),
            )
        };
        let home = set("HF_HOME").map(PathBuf::from).or_else(cache_home);
        let inside = |name| home.as_ref().map(|home| home.join(name));
        let given = set("HF_HUB_CACHE").map(PathBuf::from);
        let cache = given.or_else(|| inside("hub")).ok_or(Error::NoHome)?;
        let token_file = set("HF_TOKEN_PATH")
            .map(PathBuf::from)
            .or_else(|| inside("token"));
        let stored = || std::fs::read_to_string(token_file?).ok();
        let token = text("HF_TOKEN").or_else(stored);
        let yes = |v: String| matches!(v.to_lowercase().as_str(), "1" | "on" | "yes" | "true");
        Ok(Self {
            endpoint: text("HF_ENDPOINT")
                .unwrap_or_else(|| ENDPOINT.to_owned())
                .trim_end_matches('/')
                .to_owned(),
            cache: std::path::absolute(&cache).map_err(crate::base::fsio::at("find", &cache))?,
            token: token.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
            offline: text("HF_HUB_OFFLINE").is_some_and(yes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = |repo: &str, revision: &str, file: Option<&str>| {
            Some(Id {
                repo: repo.into(),
                revision: revision.into(),
                file: file.map(str::to_owned),
            })
        };
        for (text, expected) in [
            ("org/name", id("org/name", "main", None)),
            ("org/xl-base-1.0", id("org/xl-base-1.0", "main", None)),
            ("org/name@refs/pr/3", id("org/name", "refs/pr/3", None)),
            ("o/n/sd/x.ckpt@v1", id("o/n", "v1", Some("sd/x.ckpt"))),
            ("name", None),
            ("./name", None),
            ("../name", None),
            ("/org/name", None),
            ("org/", None),
            ("org/name/", None),
            ("org/na me", None),
            ("org/na--me", None),
            ("org/name@", None),
            ("org/name@../x", None),
            ("org/name@a?b", None),
            ("org/model.safetensors", None),
            ("org/name/readme.md", None),
            ("org/name/../x.safetensors", None),
        ] {
            assert_eq!(Id::parse(text), expected, "{text}");
        }
    }
}
