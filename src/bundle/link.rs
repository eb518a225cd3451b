//! Giving weight files their names in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::event::Report;
use super::identity::Identity;
use super::manifest::{Link, WeightFile, modified};
use super::{Event, Result};
use crate::base::fsio;
use crate::base::fsio::Linked;

/// The weight files of a bundle being written, each with the folders whose graphs point into it.
pub(super) type Users = BTreeMap<PathBuf, Vec<&'static str>>;

/// Gives every weight file its names in the bundle `dir`, and records what it is.
pub(super) fn link_weights(
    dir: &Path,
    users: &Users,
    report: &mut Report<'_>,
) -> Result<Vec<WeightFile>> {
    let files: Vec<&PathBuf> = users.keys().collect();
    let identities: Vec<fsio::Result<Identity>> =
        files.par_iter().map(|file| Identity::of(file)).collect();
    let mut weights = Vec::new();
    for ((source, folders), identity) in users.iter().zip(identities) {
        let file = link(dir, source, folders, identity?)?;
        if file.links.iter().any(|l| l.copied) {
            let bytes = file.bytes;
            report.step(Event::Copied { source, bytes })?;
        }
        weights.push(file);
    }
    Ok(weights)
}

fn link(dir: &Path, source: &Path, folders: &[&str], identity: Identity) -> Result<WeightFile> {
    let metadata = stat(source)?;
    // A file written into the bundle has its first name already, and no source but itself.
    let written = source.starts_with(dir);
    let mut links: Vec<Link> = Vec::new();
    for folder in folders {
        let path = format!("{folder}/{}", name_of(source));
        let target = dir.join(&path);
        // A copy is made once; the other names are links to it.
        let copy = links.iter().find(|l| l.copied).map(|l| dir.join(&l.path));
        let from = copy.as_deref().unwrap_or(source);
        let linked = match target == source {
            true => Linked::Hard,
            false => fsio::link_or_copy(from, &target)?,
        };
        links.push(Link {
            modified: modified(&stat(&target)?),
            copied: linked == Linked::Copied || copy.is_some(),
            path,
        });
    }
    Ok(WeightFile {
        source: Some(source.to_path_buf()).filter(|_| !written),
        identity,
        bytes: metadata.len(),
        modified: modified(&metadata),
        links,
    })
}

fn stat(path: &Path) -> Result<std::fs::Metadata> {
    Ok(path.metadata().map_err(fsio::at("read", path))?)
}

/// A file's name within its folder.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
