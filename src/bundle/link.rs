//! Giving weight files their names in a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::event::{Names, Report};
use super::identity::Identity;
use super::manifest::{Link, WeightFile, modified};
use super::{Event, Result};
use crate::base::fsio;
use crate::base::fsio::Linked;

/// The weight files of a bundle being written, each with the folders whose graphs point into it.
pub(super) type Users = BTreeMap<PathBuf, Vec<&'static str>>;

/// Gives every weight file its names in the bundle `dir`, each a file of its own if `copy` asks for it,
/// and records what it is.
pub(super) fn link_weights(
    dir: &Path,
    users: &Users,
    copy: bool,
    report: &mut Report<'_>,
) -> Result<Vec<WeightFile>> {
    let files: Vec<&PathBuf> = users.keys().collect();
    let identities: Vec<fsio::Result<Identity>> =
        files.par_iter().map(|file| Identity::of(file)).collect();
    let mut weights = Vec::new();
    for ((source, folders), identity) in users.iter().zip(identities) {
        let file = link(dir, source, folders, copy, identity?)?;
        if !copy && file.links.iter().any(|l| l.copied) {
            let bytes = file.bytes;
            report.step(Event::Copied { source, bytes })?;
        }
        weights.push(file);
    }
    report.step(Event::Linked(&count(dir, &weights)?))?;
    Ok(weights)
}

fn link(
    dir: &Path,
    source: &Path,
    folders: &[&str],
    copy: bool,
    identity: Identity,
) -> Result<WeightFile> {
    let metadata = stat(source)?;
    // A file written into the bundle has its first name already, and no source but itself.
    let written = source.starts_with(dir);
    let mut links: Vec<Link> = Vec::new();
    for folder in folders {
        let path = format!("{folder}/{}", name_of(source));
        let target = dir.join(&path);
        // Bytes that must be copied are copied once; the other names are links to the copy.
        let copied = links.iter().find(|l| l.copied && !copy);
        let from = copied.map(|l| dir.join(&l.path));
        let linked = match (target == source, &from) {
            (true, _) => None,
            (_, None) if copy => Some(fsio::copy(source, &target)?),
            (_, from) => Some(fsio::link_or_copy(
                from.as_deref().unwrap_or(source),
                &target,
            )?),
        };
        links.push(Link {
            modified: modified(&stat(&target)?),
            copied: linked == Some(Linked::Copied) || from.is_some(),
            reflink: linked == Some(Linked::Reflink),
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

/// How the names of the bundle `dir` came to be, counted.
fn count(dir: &Path, weights: &[WeightFile]) -> Result<Names> {
    let mut names = Names::default();
    for link in weights.iter().flat_map(|file| &file.links) {
        match link.stands(&stat(&dir.join(&link.path))?) {
            Linked::Hard => names.hard += 1,
            Linked::Reflink => names.reflinks += 1,
            Linked::Copied => names.own += 1,
        }
    }
    Ok(names)
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
