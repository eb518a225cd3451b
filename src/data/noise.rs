//! Which noise pictures were drawn from.
//!
//! Noise is addressed by seed, caption and the picture's number: two pictures that share all three began
//! as the same noise. What a LoRA was trained on it may draw again without having learnt anything else,
//! so pictures that measure it should share none with them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dataset::PictureRow;
use crate::base::fsio;

/// The file in a training run's folder.
const MANIFEST: &str = "manifest.json";

/// Pictures by seed and caption: those of a caption are numbered from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drawn(BTreeMap<u64, BTreeMap<String, u32>>);

/// The part of a training run's manifest that is read here.
#[derive(Deserialize)]
struct Recorded {
    drawn: Option<Drawn>,
}

impl Drawn {
    /// The pictures of some rows.
    pub fn of<'a>(rows: impl Iterator<Item = &'a PictureRow>) -> Self {
        let mut drawn = Self::default();
        for row in rows {
            let captions = drawn.0.entry(row.seed).or_default();
            let pictures = captions.entry(key(row.prompt_id)).or_insert(0);
            *pictures = (*pictures).max(row.image_id.saturating_add(1));
        }
        drawn
    }

    /// What the run in `dir` was trained on; nothing if there is no run, or one that doesn't say.
    ///
    /// # Errors
    /// A manifest that can't be read.
    pub fn of_run(dir: &Path) -> fsio::Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        if !path.is_file() {
            return Ok(None);
        }
        // Anybody's file may have this name.
        let recorded = serde_json::from_slice::<Recorded>(&fsio::read(path)?);
        Ok(recorded.ok().and_then(|recorded| recorded.drawn))
    }

    /// Whether one of the pictures is this one.
    pub fn has(&self, seed: u64, prompt_id: u32, image_id: u32) -> bool {
        let captions = self.0.get(&seed);
        let pictures = captions.and_then(|captions| captions.get(&key(prompt_id)));
        pictures.is_some_and(|&pictures| image_id < pictures)
    }
}

fn key(prompt_id: u32) -> String {
    format!("{prompt_id:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_what_it_was_trained_on() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Drawn::of_run(dir.path()).unwrap(), None);
        let captions = BTreeMap::from([(key(10), 3), (key(11), 1)]);
        let drawn = Drawn(BTreeMap::from([(u64::MAX, captions)]));
        let path = dir.path().join(MANIFEST);
        let manifest = serde_json::json!({"format": "x", "drawn": drawn});
        fsio::write(&path, manifest.to_string()).unwrap();
        let read = Drawn::of_run(dir.path()).unwrap().unwrap();
        assert_eq!(read, drawn);
        assert!(read.has(u64::MAX, 10, 2) && !read.has(u64::MAX, 10, 3));
        assert!(!read.has(0, 10, 0) && !read.has(u64::MAX, 12, 0));
        for other in ["{}", "[]", "not JSON"] {
            fsio::write(&path, other).unwrap();
            assert_eq!(Drawn::of_run(dir.path()).unwrap(), None);
        }
    }
}
