//! Data sets as tars that the `webdataset` package reads: `pa-datagen tar`.
//!
//! A picture's files stand one after the other under one key, which is the picture's name: `KEY.png` (or
//! `.jpg`), `KEY.txt` (its caption), `KEY.json` (its row) and `KEY.npy` (its latents, f32 `[C, h, w]`). The
//! same data set gives the same bytes.

use std::io::Write;
use std::path::Path;

use super::dataset::{Dataset, Error, PictureRow};
use crate::base::fsio::{self, AtomicDir, AtomicFile};
use crate::base::slow::Slow;
use crate::base::tar::Tar;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Tars.
    pub tars: usize,
    /// Pictures in them.
    pub pictures: usize,
}

/// Packs a finished data set into `out/pictures-NNNNNN.tar`, so many pictures in each: those that passed the
/// filter, or all. `out` appears whole or not at all.
///
/// # Errors
/// A data set that can't be used; [`Error::Occupied`].
pub fn pack(dir: &Path, out: &Path, each: usize, all: bool) -> Result<Packed, Error> {
    let set = Dataset::open(dir)?;
    if out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        let path = out.to_path_buf();
        return Err(Error::Occupied { path });
    }
    if let Some(parent) = out.parent() {
        fsio::create_dir_all(parent)?;
    }
    let rows = set.rows().iter().enumerate();
    let chosen: Vec<usize> = rows
        .filter(|(_, row)| all || row.dropped.is_none())
        .map(|(index, _)| index)
        .collect();
    let staged = AtomicDir::create(out)?;
    let doing = format!("packing {}", dir.display());
    let mut slow = Slow::pieces(doing, chosen.len() as u64);
    let tars = chosen.chunks(each.max(1));
    let packed = Packed {
        tars: tars.len(),
        pictures: chosen.len(),
    };
    for (number, rows) in tars.enumerate() {
        let path = staged.path().join(format!("pictures-{number:06}.tar"));
        let failed = fsio::at("write", &path);
        let mut tar = Tar::new(AtomicFile::create(&path)?);
        for &row in rows {
            slow.add(1);
            for (name, bytes) in files(&set, row)? {
                tar.add(&name, &bytes).map_err(failed)?;
            }
        }
        tar.end().map_err(failed)?.commit()?;
    }
    staged.commit()?;
    Ok(packed)
}

/// A picture's files.
fn files(set: &Dataset, index: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let row = &set.rows()[index];
    let (key, extension) = key(row, index);
    let mut files = Vec::new();
    if let (Some(extension), Some(path)) = (extension, set.image_path(index)) {
        files.push((format!("{key}.{extension}"), fsio::read(path)?));
    }
    files.push((format!("{key}.txt"), row.prompt.clone().into_bytes()));
    let json = serde_json::to_vec(row).map_err(|source| Error::Json {
        path: set.dir().to_path_buf(),
        line: index + 1,
        source,
    })?;
    files.push((format!("{key}.json"), json));
    let latents = npy(set.latents(index)?, set.latent_shape());
    files.push((format!("{key}.npy"), latents));
    Ok(files)
}

/// The key of a picture, and its file's extension if it has a file. `webdataset` ends a key at the first
/// dot.
fn key(row: &PictureRow, index: usize) -> (String, Option<&str>) {
    let named = row.file_name.as_deref().and_then(|name| {
        let name = name.rsplit('/').next()?;
        name.split_once('.')
    });
    match named {
        Some((stem, extension)) => (stem.to_owned(), Some(extension)),
        None => (format!("{index:06}"), None),
    }
}

/// An array in numpy's format, version 1.0.
fn npy(values: &[f32], shape: [usize; 3]) -> Vec<u8> {
    /// What the header ends at a multiple of.
    const ALIGNED: usize = 64;
    let [c, h, w] = shape;
    let facts = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({c}, {h}, {w}), }}");
    let start = b"\x93NUMPY\x01\x00";
    let length = (start.len() + 2 + facts.len() + 1).next_multiple_of(ALIGNED) - start.len() - 2;
    let mut bytes = start.to_vec();
    bytes.extend((length as u16).to_le_bytes());
    // Writing into memory doesn't fail.
    let _ = writeln!(bytes, "{facts:<0$}", length - 1);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}
