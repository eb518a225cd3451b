//! Pictures to score that share their noise with those that the LoRA was trained on: what they show may
//! have been learnt by heart.

use std::path::Path;

use serde::Deserialize;

use super::Result;
use super::gallery::{Gallery, Layout};
use crate::base::{fsio, json};
use crate::data::dataset::METADATA;
use crate::data::manifest;
use crate::data::noise::Drawn;
use crate::prompts::caption_id;

/// What a row of one of our data sets says of its picture's noise.
#[derive(Deserialize)]
struct Row {
    prompt: String,
    seed: u64,
    image_id: u32,
}

/// What the manifest of one of our data sets says of it.
#[derive(Deserialize)]
struct Recorded {
    shared_with_training: Option<usize>,
}

/// How many pictures of a folder share their noise with those that were trained on: of a run that is given,
/// or, where the folder knows, of the LoRA that it was drawn with. Nothing where neither can be known:
/// only our data sets have seeds.
///
/// # Errors
/// A file can't be read.
pub(super) fn of(gallery: &Gallery, trained: Option<&Drawn>) -> Result<Option<usize>> {
    match (gallery.layout, trained) {
        (Layout::Dataset, Some(trained)) => count(&gallery.dir, trained).map(Some),
        (Layout::Dataset, None) => recorded(&gallery.dir),
        _ => Ok(None),
    }
}

fn count(dir: &Path, trained: &Drawn) -> Result<usize> {
    let text = fsio::read_to_string(dir.join(METADATA))?;
    // The gallery has read them; a row that doesn't say is of nobody's noise.
    let rows = json::values(&text).unwrap_or_default().into_iter();
    let rows = rows.filter_map(|(_, row)| serde_json::from_value::<Row>(row).ok());
    let shared = rows.filter(|row| trained.has(row.seed, caption_id(&row.prompt), row.image_id));
    Ok(shared.count())
}

fn recorded(dir: &Path) -> Result<Option<usize>> {
    let bytes = fsio::read(dir.join(manifest::FILE))?;
    let recorded = serde_json::from_slice::<Recorded>(&bytes).ok();
    Ok(recorded.and_then(|recorded| recorded.shared_with_training))
}

/// What is said of it, if anything is.
pub(super) fn note(gallery: &Gallery, shared: Option<usize>) -> Option<String> {
    let shared = shared.filter(|&n| n > 0)?;
    let (dir, of) = (gallery.dir.display(), gallery.pictures.len());
    Some(format!(
        "{dir}: {shared} of {of} pictures have the seed, caption and number of pictures that the LoRA was \
         trained on, and so their noise; draw the sets to score with another pa-datagen --seed"
    ))
}
