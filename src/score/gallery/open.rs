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
        let gallery = match table::read(dir)? {
            Some(gallery) => gallery,
            None => walk::read(dir)?,
        };
        if gallery.pictures.is_empty() {
            return Err(Error::Empty {
                dir: dir.to_path_buf(),
                without_files: gallery.without_files > 0,
            });
        }
        Ok(gallery)
    }
}
