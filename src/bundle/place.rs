//! The place that a bundle is written to.

use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST;
use super::{Error, Result};
use crate::base::fsio;

/// The bundle's place, after checking that nothing but a bundle is there and that it is apart
/// from the checkpoint. Folders above it are created.
pub(super) fn output(out: &Path, sources: &[&Path]) -> Result<PathBuf> {
    fsio::refuse_url(out)?;
    let failed = |action| fsio::at(action, out);
    let absolute = std::path::absolute(out).map_err(failed("create"))?;
    let (parent, name) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => {
            return Err(Error::InTheWay {
                path: out.to_path_buf(),
            });
        }
    };
    let overlaps = |place: &Path| {
        for &source in sources {
            if source.starts_with(place) || place.starts_with(source) {
                return Err(Error::Overlap {
                    out: out.to_path_buf(),
                    source_dir: source.to_path_buf(),
                });
            }
        }
        Ok(())
    };
    overlaps(&absolute)?;
    fsio::create_dir_all(parent)?;
    let parent = parent.canonicalize().map_err(failed("create"))?;
    let mut place = parent.join(name);
    if place.symlink_metadata().is_ok() {
        place = place.canonicalize().map_err(failed("replace"))?;
        let free = || Some(place.read_dir().ok()?.next().is_none());
        let ours = || place.join(MANIFEST).is_file() && is_manifest(&place.join(MANIFEST));
        if free() != Some(true) && !ours() {
            return Err(Error::InTheWay {
                path: out.to_path_buf(),
            });
        }
    }
    overlaps(&place)?;
    Ok(place)
}

/// Whether a file is a manifest of ours, of whatever format.
fn is_manifest(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json.get("popalign").is_some() && json.get("format").is_some()
}
