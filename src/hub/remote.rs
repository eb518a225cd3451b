//! A repository: which files it has, and each of them in the cache.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;

use super::fetch::{Client, What, escaped};
use super::{Error, Hub, Id, Result, is_path};
use crate::base::fsio;
use crate::base::fsio::Resumable;
use crate::base::{Stop, lock, slow};

/// What is asked for before the files, in messages.
const LIST: &str = "the list of files";

/// How far the fetching of a file is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes that it has.
    pub total: u64,
}

/// The hub's answer about a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// One revision of a repository.
#[derive(Debug)]
pub struct Remote {
    id: Id,
    /// Nothing where only the cache may be asked.
    client: Option<Client>,
    endpoint: String,
    /// The cache's folder of this repository.
    home: PathBuf,
    /// Where locks on its files are kept.
    locks: PathBuf,
    sha: String,
    files: Vec<String>,
}

impl Hub {
    /// Finds out what a revision is and which files it has: from the hub, or offline from the
    /// cache.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NotFound`], [`Error::Connection`], [`Error::Answer`]; offline
    /// [`Error::NotCached`].
    pub fn open(&self, id: &Id) -> Result<Remote> {
        let repo = Repo::new(id.repo.clone(), RepoType::Model);
        let folder = repo.folder_name();
        let mut remote = Remote {
            id: id.clone(),
            client: (!self.offline).then(|| Client::new(self)),
            endpoint: self.endpoint.clone(),
            home: self.cache.join(&folder),
            locks: self.cache.join(".locks").join(&folder),
            sha: String::new(),
            files: Vec::new(),
        };
        match &remote.client {
            Some(client) => (remote.sha, remote.files) = remote.listed(client)?,
            None => (remote.sha, remote.files) = remote.cached()?,
        }
        Ok(remote)
    }
}

impl Remote {
    /// The repository.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The paths of its files; offline, of those that the cache has.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Whether only the cache is asked.
    pub fn is_offline(&self) -> bool {
        self.client.is_none()
    }

    /// The folder in which its files stand once they are fetched.
    pub fn snapshot(&self) -> PathBuf {
        self.cache_repo().pointer_path(&self.sha)
    }

    /// The path of a file in the cache, fetched if it isn't there.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if `stop` was asked; what was fetched is kept.
    pub fn fetch(
        &self,
        file: &str,
        stop: &Stop,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        let path = self.snapshot().join(file);
        // A link into the cache whose target was removed doesn't exist.
        if path.exists() {
            return Ok(path);
        }
        let id = self.id.to_string();
        let what = What {
            id: &id,
            what: file,
        };
        let Some(client) = &self.client else {
            return Err(Error::NotCached {
                id,
                what: file.to_owned(),
            });
        };
        let url = self.url(file);
        let head = client.head(what, &url)?;
        let blob = self.home.join("blobs").join(&head.etag);
        // Waits until no other process fetches the same file.
        let lock = self.locks.join(format!("{}.lock", head.etag));
        if let Some(parent) = lock.parent() {
            fsio::create_dir_all(parent)?;
        }
        let waiting = format!("waiting for another process that fetches {file}");
        let _lock = slow::call(&waiting, || lock::wait(&lock))?;
        if !blob.exists() {
            fsio::create_dir_all(self.home.join("blobs"))?;
            let mut partial = Resumable::open(self.home.join("blobs"), &head.etag)?;
            let total = head.size;
            client.fill(what, &url, &head, &mut partial, &mut |bytes| {
                progress(Progress { file, bytes, total });
                stop.asked()
            })?;
            partial.commit()?;
        }
        if let Some(parent) = path.parent() {
            fsio::create_dir_all(parent)?;
        }
        let up = "../".repeat(2 + file.matches('/').count());
        fsio::symlink(Path::new(&format!("{up}blobs/{}", head.etag)), &path)?;
        Ok(path)
    }

    /// Records which commit the revision is, so that it is found offline. To be called once
    /// everything needed is there.
    ///
    /// # Errors
    /// [`Error::Io`] where the cache can't be written.
    pub fn finish(&self) -> Result<()> {
        if self.client.is_none() || self.id.revision == self.sha {
            return Ok(());
        }
        let path = self.home.join("refs").join(&self.id.revision);
        if let Some(parent) = path.parent() {
            fsio::create_dir_all(parent)?;
        }
        Ok(fsio::write(path, &self.sha)?)
    }

    fn cache_repo(&self) -> CacheRepo {
        // The crate's cache is named by the folder of all repositories.
        let all = self.home.parent().unwrap_or(&self.home).to_path_buf();
        Cache::new(all).repo(Repo::new(self.id.repo.clone(), RepoType::Model))
    }

    /// A file of exactly the commit that was listed.
    fn url(&self, file: &str) -> String {
        let (endpoint, repo, sha) = (&self.endpoint, &self.id.repo, &self.sha);
        format!("{endpoint}/{repo}/resolve/{sha}/{}", escaped(file, true))
    }

    /// Asks the hub for the commit and its files.
    fn listed(&self, client: &Client) -> Result<(String, Vec<String>)> {
        let id = self.id.to_string();
        let what = What {
            id: &id,
            what: LIST,
        };
        let revision = escaped(&self.id.revision, false);
        let url = format!(
            "{}/api/models/{}/revision/{revision}",
            self.endpoint, self.id.repo
        );
        let text = client.text(what, &url)?;
        let answer = |problem: String| Error::Answer {
            id: id.clone(),
            what: LIST.to_owned(),
            problem,
        };
        let info: Info = serde_json::from_slice(&text)
            .map_err(|e| answer(format!("is not what a hub says: {e}")))?;
        if info.sha.is_empty() || !info.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(answer(format!(
                "has the commit `{}`, expected a hash",
                info.sha
            )));
        }
        // They become paths in the cache.
        let files: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
        if let Some(bad) = files.iter().find(|f| !is_path(f)) {
            return Err(answer(format!(
                "names the file `{bad}`, which is no plain path"
            )));
        }
        Ok((info.sha, files))
    }

    /// Looks into the cache for the commit and its files.
    fn cached(&self) -> Result<(String, Vec<String>)> {
        let reference = self.home.join("refs").join(&self.id.revision);
        let sha = match std::fs::read_to_string(reference) {
            Ok(text) => text.trim().to_owned(),
            // A commit is its own name.
            Err(_) => self.id.revision.clone(),
        };
        let snapshot = self.cache_repo().pointer_path(&sha);
        if !is_path(&sha) || !snapshot.is_dir() {
            return Err(Error::NotCached {
                id: self.id.to_string(),
                what: "files".to_owned(),
            });
        }
        let mut files = Vec::new();
        walk(&snapshot, "", &mut files).map_err(fsio::at("read", &snapshot))?;
        files.sort();
        Ok((sha, files))
    }
}

/// The files below a folder, as paths with slashes.
fn walk(dir: &Path, prefix: &str, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // The folders are real, the files links to blobs.
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), &format!("{prefix}{name}/"), files)?,
            false if entry.path().exists() => files.push(format!("{prefix}{name}")),
            false => {}
        }
    }
    Ok(())
}
