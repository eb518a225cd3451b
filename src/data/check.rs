//! Looking at every byte of a data set: `pa-datagen check`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use super::claim::LOCK;
use super::dataset::{AXES, Error, METADATA, PictureRow, REJECTED, TEXT};
use super::manifest::{self, DatasetManifest, Outcome};
use super::on_disk::{self, PARTS, latents_name};
use super::writer::IMAGES;
use crate::base::fsio;
use crate::base::slow::Slow;
use crate::store::{Compared, Store};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A file that is missing.
    Missing(String),
    /// A file that isn't what was written.
    Changed(String),
    /// A file that nothing of the data set names.
    Stranger(String),
    /// A picture of a caption that is missing between others.
    Hole {
        /// The caption.
        prompt: String,
        /// The picture's number.
        image_id: u32,
    },
    /// A picture of a caption that stands there twice.
    Twice {
        /// The caption.
        prompt: String,
        /// The picture's number.
        image_id: u32,
    },
    /// Two files with the same bytes.
    Alike {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Units that are still to be made.
    Unfinished(usize),
}

impl Problem {
    /// One word for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Problem::Missing(_) => "missing",
            Problem::Changed(_) => "changed",
            Problem::Stranger(_) => "stranger",
            Problem::Hole { .. } => "hole",
            Problem::Twice { .. } => "twice",
            Problem::Alike { .. } => "alike",
            Problem::Unfinished(_) => "unfinished",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(file) => write!(f, "{file} is missing"),
            Problem::Changed(file) => write!(f, "{file} is not what was written"),
            Problem::Stranger(file) => write!(f, "{file} is a stranger: nothing names it"),
            Problem::Hole { prompt, image_id } => {
                write!(
                    f,
                    "picture {image_id} of {prompt:?} is missing between others"
                )
            }
            Problem::Twice { prompt, image_id } => {
                write!(f, "picture {image_id} of {prompt:?} stands there twice")
            }
            Problem::Alike { first, second } => write!(f, "{first} and {second} are the same"),
            Problem::Unfinished(units) => write!(f, "{units} units are still to be made"),
        }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows of pictures.
    pub rows: usize,
    /// Files whose bytes were compared with what was written.
    pub files: usize,
    /// What is wrong, in the order of looking.
    pub problems: Vec<Problem>,
}

/// Pictures that are compared in one go.
const TOGETHER: usize = 64;

/// Looks at every file of a data set, finished or not, and changes nothing. Hashes are compared
/// where they are known, pictures of each caption counted, and files looked for that don't belong there.
///
/// # Errors
/// A place that has no data set, or can't be read.
pub fn check(store: &Store) -> Result<Checked, Error> {
    let Some(manifest) = DatasetManifest::find(store)? else {
        let dir = store.name();
        return Err(Error::NotADataset { dir });
    };
    let mut look = Look {
        store,
        manifest: &manifest,
        found: Checked::default(),
    };
    let rows = match &manifest.outcome {
        Some(outcome) => look.finished(outcome)?,
        None => look.unfinished()?,
    };
    look.axes()?;
    look.numbers(&rows);
    look.alike(&rows);
    look.strangers(&rows)?;
    look.found.rows = rows.len();
    Ok(look.found)
}

struct Look<'a> {
    store: &'a Store,
    manifest: &'a DatasetManifest,
    found: Checked,
}

impl Look<'_> {
    /// Compares files with their hashes.
    fn files(&mut self, files: &[(&str, &str)]) -> Result<(), Error> {
        self.found.files += files.len();
        for ((name, _), compared) in files.iter().zip(self.store.compare(files)?) {
            self.found.problems.extend(match compared {
                Compared::Same => None,
                Compared::Other => Some(Problem::Changed((*name).to_owned())),
                Compared::Absent => Some(Problem::Missing((*name).to_owned())),
            });
        }
        Ok(())
    }

    /// The files of a finished set; gives its rows.
    fn finished(&mut self, outcome: &Outcome) -> Result<Vec<PictureRow>, Error> {
        let hashes = outcome.sha256.iter();
        let files: Vec<(&str, &str)> = hashes.map(|(name, hash)| (&**name, &**hash)).collect();
        self.files(&files)?;
        let rows = on_disk::rows(self.store, self.manifest)?;
        let doing = format!("checking the pictures of {}", self.store.name().display());
        let mut slow = Slow::pieces(doing, rows.len() as u64);
        for rows in rows.chunks(TOGETHER) {
            let pictures = rows.iter().filter_map(|row| {
                let (name, hash) = (row.file_name.as_deref()?, row.sha256.as_deref()?);
                Some((name, hash))
            });
            self.files(&pictures.collect::<Vec<_>>())?;
            slow.add(rows.len() as u64);
        }
        Ok(rows)
    }

    /// The files of the units that are there; gives their rows.
    fn unfinished(&mut self) -> Result<Vec<PictureRow>, Error> {
        let layout = &self.manifest.layout;
        let mut all = Vec::new();
        let mut left = 0;
        for unit in 0..layout.units() {
            match on_disk::part(self.store, unit, layout)? {
                Some((rows, damaged)) => {
                    self.found.files += rows.iter().filter(|row| row.sha256.is_some()).count();
                    for name in damaged {
                        self.found.problems.push(match self.store.size(&name)? {
                            Some(_) => Problem::Changed(name),
                            None => Problem::Missing(name),
                        });
                    }
                    all.extend(rows);
                }
                None => left += 1,
            }
        }
        // With none left it only has to be joined; the same command does.
        self.found.problems.push(Problem::Unfinished(left));
        Ok(all)
    }

    /// The axes file, by the hash in the configuration.
    fn axes(&mut self) -> Result<(), Error> {
        let hash = self
            .manifest
            .config
            .get("axes")
            .and_then(|axes| axes.get("sha256"));
        match hash.and_then(Value::as_str) {
            Some(hash) => self.files(&[(AXES, hash)]),
            None => Ok(()),
        }
    }

    /// Pictures of a caption are numbered from 0, one after the other; where captions end when they have
    /// enough, the next of the same caption begins a unit.
    fn numbers(&mut self, rows: &[PictureRow]) {
        let mut captions: BTreeMap<(u64, &str), Vec<(u32, bool)>> = BTreeMap::new();
        for row in rows {
            let begins = self.manifest.layout.ragged && row.latents.index == 0;
            let numbers = captions.entry((row.seed, &row.prompt)).or_default();
            numbers.push((row.image_id, begins));
        }
        let finished = self.manifest.outcome.is_some();
        for ((_, prompt), mut numbers) in captions {
            numbers.sort_unstable();
            let mut next = 0;
            for (image_id, begins) in numbers {
                let prompt = || prompt.to_owned();
                if image_id < next {
                    let prompt = prompt();
                    self.found
                        .problems
                        .push(Problem::Twice { prompt, image_id });
                    continue;
                }
                if finished && !begins {
                    let holes = (next..image_id).map(|image_id| Problem::Hole {
                        prompt: prompt(),
                        image_id,
                    });
                    self.found.problems.extend(holes);
                }
                next = image_id + 1;
            }
        }
    }

    /// Files that two rows name, or that have the same bytes.
    fn alike(&mut self, rows: &[PictureRow]) {
        let mut hashes: HashMap<&str, &str> = HashMap::new();
        for row in rows {
            let (Some(name), Some(hash)) = (&row.file_name, &row.sha256) else {
                continue;
            };
            if let Some(first) = hashes.insert(hash, name) {
                self.found.problems.push(Problem::Alike {
                    first: first.to_owned(),
                    second: name.clone(),
                });
            }
        }
    }

    /// Files that nothing names. Of an unfinished set nobody can say it of pictures and latents: a unit
    /// may be under way.
    fn strangers(&mut self, rows: &[PictureRow]) -> Result<(), Error> {
        let finished = self.manifest.outcome.is_some();
        let mut known: HashSet<String> = [manifest::FILE, METADATA, REJECTED, TEXT, AXES, LOCK]
            .map(str::to_owned)
            .into();
        for row in rows {
            known.insert(row.latents.file.clone());
            known.extend(row.file_name.clone());
        }
        if !finished {
            known.extend((0..self.manifest.layout.units()).map(latents_name));
        }
        for (name, _) in self.store.list("")? {
            let folder = name.split('/').next().unwrap_or_default();
            let last = name.rsplit('/').next().unwrap_or_default();
            let under_way = [IMAGES, PARTS].contains(&folder) || last.starts_with(fsio::PARTIAL);
            if !known.contains(&name) && (finished || !under_way) {
                self.found.problems.push(Problem::Stranger(name));
            }
        }
        Ok(())
    }
}
