//! What the numbers of a run depend on: options, files and their hashes.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Result;
use super::look::{Look, Looks};
use super::measure::SIDES;
use super::population::Population;
use super::reference::NEIGHBOURS;
use super::request::Request;
use super::scores::{Input, Sided};
use super::setup::Setup;
use crate::base::fsio;
use crate::bundle::{Identity, Part};
use crate::judge::clip::Clip;
use crate::judge::scales::Scale;

/// The folders with the hashes of their pictures.
pub(super) fn inputs(setup: &Setup, population: &Population, looks: &Looks) -> Sided<Vec<Input>> {
    let galleries = &setup.galleries;
    let mut lists: [Vec<String>; SIDES] =
        [0, 1].map(|side| vec![String::new(); galleries[side].len()]);
    for (shot, Look { sha256, .. }) in population.shots.iter().zip(&looks.shots) {
        let sha256 = sha256.as_deref().unwrap_or("missing");
        lists[shot.side][shot.folder] += &format!("{sha256}  {}\n", shot.name);
    }
    let of = |side: usize| {
        let folders = galleries[side].iter().zip(&lists[side]);
        let folders = folders.zip(&setup.shared[side]);
        folders
            .map(|((gallery, list), &shared_with_training)| Input {
                dir: gallery.dir.display().to_string(),
                layout: gallery.layout,
                pictures: gallery.pictures.len(),
                without_files: gallery.without_files,
                unlisted: gallery.unlisted.len(),
                shared_with_training,
                sha256: fsio::sha256_bytes(list.as_bytes()),
            })
            .collect::<Vec<_>>()
    };
    Sided::new([Some(of(0)), population.compared.then(|| of(1))])
}

/// What the numbers depend on.
///
/// # Errors
/// A file can't be read.
pub(super) fn config(request: &Request, setup: &Setup) -> Result<Map<String, Value>> {
    let hash = |path: Option<&Path>| path.map(fsio::sha256).transpose();
    let clip = setup.bundle.as_ref().filter(|b| Clip::is_in(b));
    let clip = match clip {
        Some(bundle) => {
            let part = |part| bundle.part(part).map(|info| info.sha256.clone());
            json!({"text": part(Part::ClipText)?, "vision": part(Part::ClipVision)?})
        }
        None => Value::Null,
    };
    let entries = [
        ("metrics", json!(setup.metrics.names())),
        ("bootstrap", json!(request.bootstrap)),
        ("seed", json!(request.seed)),
        ("targets", targets(&setup.metrics.scales)),
        ("axes_sha256", json!(hash(setup.axes_path.as_deref())?)),
        ("target_sha256", json!(hash(request.target.as_deref())?)),
        ("clip_sha256", clip),
        ("weights_sha256", weights(setup)?),
        ("reference_sha256", json!(hash(setup.bank_path.as_deref())?)),
        ("reference_neighbours", json!(NEIGHBOURS)),
    ];
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Ok(entries.collect())
}

/// What identifies the published weights that metrics need, by what they are of: of large files samples.
fn weights(setup: &Setup) -> Result<Value> {
    let mut found = Map::new();
    let mut add = |key: &str, file: &Path| -> Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let files = found.entry(key).or_insert_with(|| json!({}));
        files[&*name] = json!(Identity::of(file)?.text());
        Ok(())
    };
    for (tower, source) in &setup.sources {
        source.files().try_for_each(|file| add(tower.key(), file))?;
    }
    if let Some(aesthetic) = &setup.aesthetic {
        add("aesthetic", aesthetic.path())?;
    }
    Ok(Value::Object(found))
}

/// The target shares, by axis and value.
fn targets(scales: &[Scale]) -> Value {
    let axes = scales.iter().map(|scale| {
        let shares = scale.values.iter().zip(&scale.target);
        let shares = shares.map(|(value, share)| (value.clone(), json!(share)));
        (scale.name.clone(), Value::Object(shares.collect()))
    });
    Value::Object(axes.collect())
}
