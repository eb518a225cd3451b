//! Where published weights lie: in a folder of the user's, under the names that they are published by, or
//! in the hub's cache.
//!
//! A folder may hold the files themselves, folders named as their repositories on the hub, or be a cache
//! of the hub's.

use std::path::{Path, PathBuf};

use crate::hub;

/// Something that is published: a file of one name, or a repository of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Names of single files, and the repository that has them too.
    pub files: &'static [(&'static str, Option<&'static str>)],
    /// Repositories of which the whole folder is meant.
    pub repositories: &'static [&'static str],
}

/// The folders to look in, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    dirs: Vec<PathBuf>,
}

impl Places {
    /// The user's folder; and the hub's cache, where `cache` asks for it.
    pub fn new(weights: Option<&Path>, cache: bool) -> Self {
        let mut dirs: Vec<PathBuf> = weights.map(Path::to_path_buf).into_iter().collect();
        if let (true, Ok(hub)) = (cache, hub::Hub::from_env()) {
            dirs.push(hub.cache().to_path_buf());
        }
        Self { dirs }
    }

    /// The folders.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The file or folder of something published.
    pub fn find(&self, published: &Published) -> Option<PathBuf> {
        let of_dir = |dir: &PathBuf| {
            let files = published.files.iter().find_map(|(name, repo)| {
                let direct = Some(dir.join(name)).filter(|path| path.is_file());
                direct.or_else(|| {
                    folders(dir, (*repo)?)
                        .map(|folder| folder.join(name))
                        .find(|path| path.is_file())
                })
            });
            let repositories = published.repositories.iter();
            files.or_else(|| {
                repositories
                    .flat_map(|repo| folders(dir, repo))
                    .find(|path| path.is_dir())
            })
        };
        self.dirs.iter().find_map(of_dir)
    }

    /// A file by its name.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.dirs.iter().map(|dir| dir.join(name));
        paths.find(|path| path.is_file())
    }
}

/// Where a repository's folder may be in a folder of weights.
fn folders(dir: &Path, repo: &'static str) -> impl Iterator<Item = PathBuf> {
    let name = repo.rsplit('/').next().unwrap_or(repo);
    std::iter::once(dir.join(name)).chain(hub::snapshot(dir, repo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fsio;

    #[test]
    fn files_folders_and_caches_are_looked_through_in_order() {
        let published = Published {
            files: &[("a.pt", Some("org/a-files"))],
            repositories: &["org/a"],
        };
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let places = Places::new(Some(dir), false);
        assert_eq!(places.find(&published), None);
        let refs = dir.join("models--org--a/refs");
        fsio::create_dir_all(&refs).unwrap();
        fsio::write(refs.join("main"), "../../..").unwrap();
        assert_eq!(places.find(&published), None);
        fsio::write(refs.join("main"), "abc").unwrap();
        let snapshot = dir.join("models--org--a/snapshots/abc");
        fsio::create_dir_all(&snapshot).unwrap();
        assert_eq!(places.find(&published), Some(snapshot));
        fsio::create_dir_all(dir.join("a")).unwrap();
        assert_eq!(places.find(&published), Some(dir.join("a")));
        fsio::create_dir_all(dir.join("a-files")).unwrap();
        let inside = dir.join("a-files/a.pt");
        fsio::write(&inside, "x").unwrap();
        assert_eq!(places.find(&published), Some(inside));
        fsio::write(dir.join("a.pt"), "x").unwrap();
        assert_eq!(places.find(&published), Some(dir.join("a.pt")));
    }
}
