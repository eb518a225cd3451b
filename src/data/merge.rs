//! Joining shards of one data set that were drawn into folders of their own: `pa-datagen merge`. It
//! also brings a data set from a store to a folder, and back.

use std::collections::BTreeMap;

use super::dataset::{AXES, Error, PictureRow, TEXT};
use super::manifest::{self, DatasetManifest, Outcome};
use super::on_disk::{self, latents_name};
use super::writer::{DatasetWriter, Finish};
use crate::base::slow::Slow;
use crate::store::Store;

/// A data set to take units from.
struct Source<'a> {
    store: &'a Store,
    /// The rows of its whole units.
    units: BTreeMap<usize, Vec<PictureRow>>,
}

/// Joins data sets of one configuration, finished or not, in `out`: a new place, or an unfinished set of the
/// same configuration. Between folders files are linked where the file system can, else they are copied.
///
/// # Errors
/// [`Error::Differ`] for data sets of other configurations, and for units that differ between two of them;
/// [`Error::Incomplete`] if units are in none of them: `out` then has the others.
pub fn merge(stores: &[Store], out: Store) -> Result<Outcome, Error> {
    let mut first: Option<DatasetManifest> = None;
    let mut sources = Vec::new();
    for store in stores {
        let Some(manifest) = DatasetManifest::find(store)? else {
            let dir = store.name();
            return Err(Error::NotADataset { dir });
        };
        if let Some(first) = &first {
            first.same_run(&manifest, &stores[0])?;
        }
        sources.push(Source::look(store, &manifest)?);
        first.get_or_insert(DatasetManifest {
            outcome: None,
            ..manifest
        });
    }
    let dir = out.name();
    let Some(manifest) = first else {
        return Err(Error::NotADataset { dir });
    };
    refuse(&out)?;
    let units = manifest.layout.units();
    let with_axes = manifest
        .config
        .get("axes")
        .is_some_and(|axes| !axes.is_null());
    let writer = DatasetWriter::open(out, manifest)?;
    if writer.outcome().is_none() {
        shared(&sources, writer.store(), TEXT)?;
        if with_axes {
            shared(&sources, writer.store(), AXES)?;
        }
        let mut slow = Slow::pieces(format!("joining units to {}", dir.display()), units as u64);
        for unit in 0..units {
            slow.add(1);
            if !writer.unit_done(unit)? {
                take(&sources, unit, &writer)?;
            }
        }
    }
    match writer.finish()? {
        Finish::Complete(outcome) => Ok(outcome),
        Finish::UnitsLeft(left) => Err(Error::Incomplete {
            dir,
            units: left,
            of: units,
        }),
        Finish::LeftToOthers => Err(Error::Unfinished { dir }),
    }
}

impl<'a> Source<'a> {
    /// Looks at every file of a data set.
    fn look(store: &'a Store, manifest: &DatasetManifest) -> Result<Self, Error> {
        let layout = &manifest.layout;
        let mut units = BTreeMap::new();
        match &manifest.outcome {
            Some(outcome) => units.extend(on_disk::survey(store, manifest, outcome)?.whole),
            None => {
                let doing = format!("checking the files of {}", store.name().display());
                let mut slow = Slow::pieces(doing, layout.units() as u64);
                for unit in 0..layout.units() {
                    slow.add(1);
                    let rows = on_disk::done(store, unit, layout)?;
                    units.extend(rows.map(|rows| (unit, rows)));
                }
            }
        }
        Ok(Self { store, units })
    }

    /// The SHA-256 of a file that is there.
    fn hash(&self, name: &str) -> Result<String, Error> {
        Ok(self.store.sha256(&[name.to_owned()])?.concat())
    }
}

/// Only an empty place or a data set becomes one.
fn refuse(out: &Store) -> Result<(), Error> {
    match out.size(manifest::FILE)?.is_some() || out.entries()?.is_empty() {
        true => Ok(()),
        false => Err(Error::Occupied { path: out.name() }),
    }
}

/// Takes a file that all data sets that have it must have alike.
fn shared(sources: &[Source<'_>], out: &Store, name: &str) -> Result<(), Error> {
    let mut first: Option<(&Source<'_>, String)> = None;
    for source in sources {
        if source.store.size(name)?.is_none() {
            continue;
        }
        let hash = source.hash(name)?;
        match &first {
            Some((first, known)) if *known != hash => {
                return Err(differ(first, source, name.to_owned()));
            }
            _ => first = first.or(Some((source, hash))),
        }
    }
    if let Some((source, _)) = first {
        out.take(name, source.store)?;
    }
    Ok(())
}

/// Takes a unit from the first data set that has it, if any has.
fn take(sources: &[Source<'_>], unit: usize, writer: &DatasetWriter) -> Result<(), Error> {
    let mut found = sources
        .iter()
        .filter_map(|source| Some((source, source.units.get(&unit)?)));
    let Some((source, rows)) = found.next() else {
        return Ok(());
    };
    let latents = latents_name(unit);
    for (other, own) in found {
        if own != rows || !rows.is_empty() && source.hash(&latents)? != other.hash(&latents)? {
            let what = format!("unit {unit}: the same pictures came out otherwise");
            return Err(differ(source, other, what));
        }
    }
    let pictures = rows.iter().filter_map(|row| row.file_name.as_deref());
    let latents = (!rows.is_empty()).then_some(latents.as_str());
    for name in pictures.chain(latents) {
        writer.store().take(name, source.store)?;
    }
    writer.adopt_unit(unit, rows)
}

fn differ(first: &Source<'_>, second: &Source<'_>, what: String) -> Error {
    Error::Differ {
        first: first.store.name(),
        second: second.store.name(),
        what,
    }
}
