//! Joining shards of one data set that were drawn into folders of their own: `pa-datagen merge`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::dataset::{AXES, Error, PictureRow, TEXT};
use super::manifest::{self, DatasetManifest, Outcome};
use super::on_disk::{self, latents_name};
use super::writer::{DatasetWriter, Finish};
use crate::base::fsio;
use crate::base::slow::Slow;

/// A data set to take units from.
struct Source<'a> {
    dir: &'a Path,
    /// The rows of its whole units.
    units: BTreeMap<usize, Vec<PictureRow>>,
}

/// Joins data sets of one configuration, finished or not, to `out`: a new folder, or an unfinished set of the
/// same configuration. Files are linked where the file system can, else copied.
///
/// # Errors
/// [`Error::Differ`] for data sets of other configurations, and for units that differ between two of them;
/// [`Error::Incomplete`] if units are in none of them: `out` then has the others.
pub fn merge(dirs: &[PathBuf], out: &Path) -> Result<Outcome, Error> {
    let mut first: Option<DatasetManifest> = None;
    let mut sources = Vec::new();
    for dir in dirs {
        if !dir.join(manifest::FILE).is_file() {
            return Err(Error::NotADataset { dir: dir.clone() });
        }
        let manifest = DatasetManifest::read(dir)?;
        if let Some(first) = &first {
            first.same_run(&manifest, &dirs[0])?;
        }
        sources.push(Source::look(dir, &manifest));
        first.get_or_insert(DatasetManifest {
            outcome: None,
            ..manifest
        });
    }
    let Some(manifest) = first else {
        let dir = out.to_path_buf();
        return Err(Error::NotADataset { dir });
    };
    refuse(out)?;
    let units = manifest.layout.units();
    let with_axes = manifest
        .config
        .get("axes")
        .is_some_and(|axes| !axes.is_null());
    let writer = DatasetWriter::open(out, manifest)?;
    if writer.outcome().is_none() {
        shared(&sources, out, TEXT)?;
        if with_axes {
            shared(&sources, out, AXES)?;
        }
        let mut slow = Slow::pieces(format!("joining units to {}", out.display()), units as u64);
        for unit in 0..units {
            slow.add(1);
            if !writer.unit_done(unit) {
                take(&sources, unit, out, &writer)?;
            }
        }
    }
    match writer.finish()? {
        Finish::Complete(outcome) => Ok(outcome),
        Finish::UnitsLeft(left) => Err(Error::Incomplete {
            dir: out.to_path_buf(),
            units: left,
            of: units,
        }),
        Finish::LeftToOthers => Err(Error::Unfinished {
            dir: out.to_path_buf(),
        }),
    }
}

impl<'a> Source<'a> {
    /// Looks at every file of a data set.
    fn look(dir: &'a Path, manifest: &DatasetManifest) -> Self {
        let layout = &manifest.layout;
        let units = match &manifest.outcome {
            Some(outcome) => on_disk::survey(dir, manifest, outcome)
                .whole
                .into_iter()
                .collect(),
            None => {
                let doing = format!("checking the files of {}", dir.display());
                let mut slow = Slow::pieces(doing, layout.units() as u64);
                let done = (0..layout.units()).filter_map(|unit| {
                    slow.add(1);
                    Some((unit, on_disk::done(dir, unit, layout)?))
                });
                done.collect()
            }
        };
        Self { dir, units }
    }
}

/// Only an empty folder or a data set becomes one.
fn refuse(out: &Path) -> Result<(), Error> {
    let empty = || {
        out.read_dir()
            .map_or(true, |mut entries| entries.next().is_none())
    };
    match out.join(manifest::FILE).is_file() || empty() {
        true => Ok(()),
        false => Err(Error::Occupied {
            path: out.to_path_buf(),
        }),
    }
}

/// Links a file that all data sets that have it must have alike.
fn shared(sources: &[Source<'_>], out: &Path, name: &str) -> Result<(), Error> {
    let there = sources
        .iter()
        .filter(|source| source.dir.join(name).is_file());
    let mut first: Option<(&Source<'_>, String)> = None;
    for source in there {
        let hash = fsio::sha256(&source.dir.join(name))?;
        match &first {
            Some((first, known)) if *known != hash => {
                return Err(differ(first, source, name.to_owned()));
            }
            _ => first = first.or(Some((source, hash))),
        }
    }
    if let Some((source, _)) = first {
        fsio::link_or_copy(&source.dir.join(name), &out.join(name))?;
    }
    Ok(())
}

/// Takes a unit from the first data set that has it, if any has.
fn take(
    sources: &[Source<'_>],
    unit: usize,
    out: &Path,
    writer: &DatasetWriter,
) -> Result<(), Error> {
    let mut found = sources
        .iter()
        .filter_map(|source| Some((source, source.units.get(&unit)?)));
    let Some((source, rows)) = found.next() else {
        return Ok(());
    };
    let latents = latents_name(unit);
    for (other, own) in found {
        let hash = |source: &Source<'_>| fsio::sha256(&source.dir.join(&latents));
        if own != rows || !rows.is_empty() && hash(source)? != hash(other)? {
            let what = format!("unit {unit}: the same pictures came out otherwise");
            return Err(differ(source, other, what));
        }
    }
    let pictures = rows.iter().filter_map(|row| row.file_name.as_deref());
    let latents = (!rows.is_empty()).then_some(latents.as_str());
    for name in pictures.chain(latents) {
        fsio::link_or_copy(&source.dir.join(name), &out.join(name))?;
    }
    writer.adopt_unit(unit, rows)
}

fn differ(first: &Source<'_>, second: &Source<'_>, what: String) -> Error {
    Error::Differ {
        first: first.dir.to_path_buf(),
        second: second.dir.to_path_buf(),
        what,
    }
}
