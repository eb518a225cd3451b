//! Looking into a folder.

use std::path::Path;

use super::folder::Gallery;
use super::{table, walk};
use crate::score::{Error, Result};

impl Gallery {
    /// Looks into a folder.
    ///
    /// # Errors
    /// [`Error::NoFolder`], [`Error::Empty`], [`Error::Unfinished`], [`Error::Row`].
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::NoFolder {
                dir: dir.to_path_buf(),
            });
        }
        let mut gallery = match table::read(dir)? {
            Some(gallery) => gallery,
            None => walk::read(dir)?,
        };
        gallery.notes.extend(links(dir)?);
        if gallery.pictures.is_empty() {
            return Err(Error::Empty {
                dir: dir.to_path_buf(),
                without_files: gallery.without_files > 0,
            });
        }
        Ok(gallery)
    }
}

/// What is said of links to folders: they may lead in a circle, so what is behind them isn't seen.
fn links(dir: &Path) -> Result<Option<String>> {
    let links = walk::files(dir, &Path::is_dir)?;
    let first = links.first().map(|link| dir.join(link));
    Ok(first.map(|first| {
        let (first, count) = (first.display(), links.len());
        format!("links to folders are not followed: {count}, such as {first}")
    }))
}
