//! The files of a place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::bucket::Bucket;
use super::writing::{Upload, Writing};
use super::{Error, Place, Result};
use crate::base::fsio::{self, AtomicFile, Hashing};

/// Files by their names, in which folders end at `/`.
#[derive(Debug, Clone)]
pub enum Store {
    /// Of a folder.
    Folder(PathBuf),
    /// Objects under a prefix.
    Bucket(Bucket),
}

/// How a file compares with the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// It is that one.
    Same,
    /// It has another hash, or can't be read.
    Other,
    /// There is none.
    Absent,
}

/// A file that is open, to be read once.
pub struct Opened {
    /// Its bytes.
    pub bytes: Box<dyn Read>,
    /// How many they are.
    pub size: u64,
}

impl Store {
    /// The files of a place. An object store is spoken to; a folder need not be there.
    ///
    /// # Errors
    /// [`Error::Remote`] if the store can't be reached, knows no such bucket, or refuses; then the variables
    /// that say how to reach it are named.
    pub fn open(place: &Place) -> Result<Self> {
        match place {
            Place::Folder(dir) => Ok(Self::Folder(dir.clone())),
            Place::Remote(address) => Ok(Self::Bucket(Bucket::open(address)?)),
        }
    }

    /// The same files, of which every byte is read where hashes are compared: what objects say themselves
    /// isn't believed.
    pub fn doubting(mut self) -> Self {
        if let Self::Bucket(bucket) = &mut self {
            bucket.doubting = true;
        }
        self
    }

    /// What the place is called: a folder's path, or a URL.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Folder(dir) => dir.clone(),
            Self::Bucket(bucket) => bucket.address().to_string().into(),
        }
    }

    /// What a file is called in messages: its path, or its URL.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(dir) => dir.join(name),
            Self::Bucket(bucket) => bucket.url(name),
        }
    }

    /// A file's size, if it is there.
    ///
    /// # Errors
    /// [`Error::Remote`], as for everything here, where a store doesn't answer.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        match self {
            Self::Folder(dir) => {
                let file = dir.join(name).metadata().ok().filter(fs::Metadata::is_file);
                Ok(file.map(|file| file.len()))
            }
            Self::Bucket(bucket) => Ok(bucket.facts(name)?.map(|facts| facts.size)),
        }
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// If it isn't there too.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(dir) => Ok(fsio::read(dir.join(name))?),
            Self::Bucket(bucket) => bucket.read(name)?.ok_or_else(|| self.gone(name)),
        }
    }

    /// A file's bytes, if it is there. One of a folder that can't be read counts as none: what is written
    /// in its place will say why.
    pub fn peek(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Folder(dir) => Ok(fsio::read(dir.join(name)).ok()),
            Self::Bucket(bucket) => bucket.read(name),
        }
    }

    /// The bytes of some files.
    ///
    /// # Errors
    /// If one isn't there too.
    pub fn read_all(&self, names: &[String]) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Folder(_) => names.iter().map(|name| self.read(name)).collect(),
            Self::Bucket(bucket) => bucket.each("reading", names, |name| self.read(name)),
        }
    }

    /// Opens a file, if it is there (as [`Store::peek`] has it).
    pub fn opened(&self, name: &str) -> Result<Option<Opened>> {
        match self {
            Self::Folder(dir) => Ok(File::open(dir.join(name)).ok().and_then(|file| {
                let size = file.metadata().ok()?.len();
                let bytes = Box::new(file);
                Some(Opened { bytes, size })
            })),
            Self::Bucket(bucket) => Ok(bucket.facts(name)?.map(|facts| Opened {
                bytes: Box::new(bucket.reader(name, facts.size)),
                size: facts.size,
            })),
        }
    }

    /// A file to be mapped; an object is fetched.
    ///
    /// # Errors
    /// If it isn't there too.
    pub fn file(&self, name: &str) -> Result<File> {
        match self {
            Self::Folder(dir) => {
                let path = dir.join(name);
                Ok(File::open(&path).map_err(fsio::at("read", &path))?)
            }
            Self::Bucket(bucket) => {
                let temp = std::env::temp_dir();
                let mut file = tempfile::tempfile().map_err(fsio::at("write to", &temp))?;
                self.copy(bucket, name, &mut file)?;
                file.rewind().map_err(fsio::at("read", &temp))?;
                Ok(file)
            }
        }
    }

    /// Compares files with the SHA-256s that they were written with.
    pub fn compare(&self, files: &[(&str, &str)]) -> Result<Vec<Compared>> {
        match self {
            Self::Folder(dir) => {
                let one = |(name, hash): &(&str, &str)| {
                    let path = dir.join(name);
                    match path.is_file() {
                        true if fsio::sha256(&path).is_ok_and(|found| found == *hash) => {
                            Compared::Same
                        }
                        true => Compared::Other,
                        false => Compared::Absent,
                    }
                };
                Ok(files.iter().map(one).collect())
            }
            Self::Bucket(bucket) => bucket.each("comparing", files, |(name, hash)| {
                Ok(match bucket.sha256(name)? {
                    Some(found) if found == *hash => Compared::Same,
                    Some(_) => Compared::Other,
                    None => Compared::Absent,
                })
            }),
        }
    }

    /// The SHA-256s of files, in lower-case hexadecimal.
    ///
    /// # Errors
    /// If one isn't there too.
    pub fn sha256(&self, names: &[String]) -> Result<Vec<String>> {
        match self {
            Self::Folder(dir) => {
                let hash = |name: &String| Ok(fsio::sha256(&dir.join(name))?);
                names.iter().map(hash).collect()
            }
            Self::Bucket(bucket) => bucket.each("hashing", names, |name| {
                bucket.sha256(name)?.ok_or_else(|| self.gone(name))
            }),
        }
    }

    /// Writes a file, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Folder(dir) => Ok(fsio::write(dir.join(name), bytes)?),
            Self::Bucket(bucket) => bucket.write(name, bytes.to_vec(), fsio::sha256_bytes(bytes)),
        }
    }

    /// Starts writing a file.
    pub fn create(&self, name: &str) -> Result<Writing> {
        match self {
            Self::Folder(dir) => Ok(Writing::File(AtomicFile::create(dir.join(name))?)),
            Self::Bucket(bucket) => Ok(Writing::Upload(Upload::new(bucket, name))),
        }
    }

    /// Gives a file of another place the same name here: linked between folders where that goes, else
    /// copied.
    pub fn take(&self, name: &str, from: &Self) -> Result<()> {
        if let (Self::Folder(dir), Self::Folder(from)) = (self, from) {
            fsio::link_or_copy(&from.join(name), &dir.join(name))?;
            return Ok(());
        }
        let mut to = self.create(name)?;
        match from {
            Self::Bucket(bucket) => from.copy(bucket, name, &mut to)?,
            Self::Folder(dir) => {
                let mut file = from.file(name)?;
                let copied = io::copy(&mut file, &mut to);
                copied.map_err(fsio::at("copy", &dir.join(name)))?;
            }
        }
        to.commit()
    }

    /// Copies an object's bytes, and looks whether they are those that it says.
    fn copy(&self, bucket: &Bucket, name: &str, to: &mut dyn Write) -> Result<()> {
        let facts = bucket.facts(name)?.ok_or_else(|| self.gone(name))?;
        let mut to = Hashing::new(to);
        io::copy(&mut bucket.reader(name, facts.size), &mut to)
            .map_err(|error| bucket.failed("copy", name, error))?;
        let found = to.end().1;
        match facts.sha256.is_none_or(|said| said == found) {
            true => Ok(()),
            false => Err(Error::Altered {
                url: bucket.url(name).display().to_string(),
            }),
        }
    }

    /// Removes a file; one that isn't there is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        match self {
            Self::Folder(dir) => Ok(fsio::remove_if_present(dir.join(name))?),
            Self::Bucket(bucket) => bucket.remove([name.to_owned()]),
        }
    }

    /// Removes a folder with all that is in it; one that isn't there is fine.
    pub fn remove_folder(&self, name: &str) -> Result<()> {
        match self {
            Self::Folder(dir) => {
                let path = dir.join(name);
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(fsio::at("remove", &path)(error).into())
                    }
                    _ => Ok(()),
                }
            }
            Self::Bucket(bucket) => bucket.remove(bucket.list(name)?.into_keys()),
        }
    }

    /// Makes a folder, where there are folders. The place itself has no name.
    pub fn make_folder(&self, name: &str) -> Result<()> {
        match self {
            Self::Folder(dir) => Ok(fsio::create_dir_all(inside(dir, name))?),
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Every file, or every one of a folder, and its size.
    pub fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>> {
        match self {
            Self::Folder(dir) => {
                let mut found = BTreeMap::new();
                walk(&inside(dir, folder), folder, &mut found)?;
                Ok(found)
            }
            Self::Bucket(bucket) => bucket.list(folder),
        }
    }

    /// The names that stand right in the place, folders' too; none of a folder that can't be read.
    pub fn entries(&self) -> Result<Vec<String>> {
        match self {
            Self::Folder(dir) => {
                let entries = dir.read_dir().into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
                Ok(names.collect())
            }
            Self::Bucket(bucket) => bucket.entries(),
        }
    }

    /// The error of a file that isn't there.
    fn gone(&self, name: &str) -> Error {
        let missing = io::ErrorKind::NotFound.into();
        fsio::at("read", &self.path(name))(missing).into()
    }
}

/// A folder's folder; without a name it is the folder itself.
fn inside(dir: &Path, name: &str) -> PathBuf {
    match name {
        "" => dir.to_path_buf(),
        _ => dir.join(name),
    }
}

fn walk(dir: &Path, name: &str, found: &mut BTreeMap<String, u64>) -> Result<()> {
    let failed = fsio::at("read", dir);
    let entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let own = match name {
            "" => own,
            _ => format!("{name}/{own}"),
        };
        // What is removed meanwhile isn't there any more.
        match entry.path().metadata() {
            Ok(facts) if facts.is_dir() => walk(&entry.path(), &own, found)?,
            Ok(facts) => _ = found.insert(own, facts.len()),
            Err(_) => _ = found.insert(own, 0),
        }
    }
    Ok(())
}
