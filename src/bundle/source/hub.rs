//! Fetching just what an export needs of a repository: not the other formats, precisions and
//! demo pictures that repositories of models also have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::index::{FILES, FOLDERS, INDEX, NETWORK_FILES, OWN_FOLDERS};
use crate::base::json;
use crate::bundle::event::Report;
use crate::bundle::{Error, Event, Options, Result};
use crate::hub::{self, Hub, Id, Remote};
use crate::tensors;
use crate::tensors::Chosen;

/// What is needed of a repository.
pub(super) struct Want<'a> {
    networks: &'a [&'static str],
    variant: Option<&'a str>,
    /// The files about the model itself too.
    own: bool,
}

impl<'a> Want<'a> {
    /// The model to export.
    pub(super) fn model(networks: &'a [&'static str], options: &'a Options) -> Self {
        let variant = options.variant.as_deref();
        let own = true;
        Self {
            networks,
            variant,
            own,
        }
    }

    /// What completes it: networks that it lacks, tokenizers, the schedule.
    pub(super) fn base(networks: &'a [&'static str], options: &'a Options) -> Self {
        let own = false;
        Self {
            own,
            ..Self::model(networks, options)
        }
    }
}

/// The folder, or the single file, of a hub id once everything wanted is in the cache; nothing if
/// `path` is no hub id.
pub(super) fn fetch(
    path: &Path,
    want: &Want<'_>,
    report: &mut Report<'_>,
) -> Result<Option<PathBuf>> {
    let Some(id) = path.to_str().and_then(Id::parse) else {
        return Ok(None);
    };
    let name = id.to_string();
    let failed = |source| match source {
        hub::Error::Interrupted => Error::Interrupted,
        source => Error::Hub {
            id: name.clone(),
            source,
        },
    };
    let hub = Hub::from_env().map_err(failed)?;
    let remote = hub.open(&id).map_err(failed)?;
    let mut get = |file: &str| {
        let observe = &mut *report.observe;
        let fetched = remote.fetch(file, report.stop, &mut |progress| {
            let hub::Progress { file, bytes, total } = progress;
            observe(Event::Fetching {
                repo: &name,
                file,
                bytes,
                total,
            });
        });
        fetched.map_err(failed)
    };
    let found = match &id.file {
        Some(file) => get(file)?,
        None => {
            for file in small_files(&remote, want) {
                get(&file)?;
            }
            for chosen in networks(&remote, want).map_err(failed)? {
                weights_of(&chosen, &mut get)?;
            }
            remote.snapshot()
        }
    };
    remote.finish().map_err(failed)?;
    Ok(Some(found))
}

/// Fetches a weight file, or an index and its shards.
fn weights_of(
    (folder, chosen): &(String, Chosen),
    get: &mut dyn FnMut(&str) -> Result<PathBuf>,
) -> Result<()> {
    match chosen {
        Chosen::File(name) => {
            get(&format!("{folder}{name}"))?;
        }
        Chosen::Index(name) => {
            let index = get(&format!("{folder}{name}"))?;
            let map = tensors::weight_map(&index)?;
            for shard in tensors::shards(&map) {
                get(&format!("{folder}{shard}"))?;
            }
        }
    }
    Ok(())
}

/// The files that are no weights.
fn small_files(remote: &Remote, want: &Want<'_>) -> Vec<String> {
    let wanted = |file: &&String| {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let network = want.networks.contains(&folder) || folder.is_empty() && is_unet(remote);
        name == INDEX && folder.is_empty()
            || FOLDERS.contains(&folder)
            || network && NETWORK_FILES.contains(&name)
            || want.own && (OWN_FOLDERS.contains(&folder) || FILES.contains(&file.as_str()))
    };
    remote.files().iter().filter(wanted).cloned().collect()
}

/// Whether a repository is that of a UNet alone, as far as its files' names tell.
fn is_unet(remote: &Remote) -> bool {
    let has = |name: &str| remote.files().iter().any(|f| f == name);
    has("config.json") && !has(INDEX) && !has("unet/config.json")
}

/// The weights of every network that is wanted and there, each with its folder.
fn networks(remote: &Remote, want: &Want<'_>) -> hub::Result<Vec<(String, Chosen)>> {
    let files: BTreeSet<&str> = remote.files().iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for network in expected(remote, want) {
        let folder = match network {
            "" => String::new(),
            network => format!("{network}/"),
        };
        let has = |name: &str| files.contains(format!("{folder}{name}").as_str());
        let chosen = tensors::choose(want.variant, has);
        let chosen = chosen.or_else(|| only_safetensors(&files, &folder, want));
        match chosen {
            Some(chosen) => found.push((folder, chosen)),
            None => return Err(no_weights(remote, network, want)),
        }
    }
    Ok(found)
}

/// The networks that a repository should have weights of. Offline the cache may hold a part of
/// what the model's index names.
fn expected<'a>(remote: &Remote, want: &Want<'a>) -> Vec<&'a str> {
    let has = |file: String| remote.files().contains(&file);
    let index = remote.snapshot().join(INDEX);
    let index: Json = json::read(&index, "JSON").unwrap_or_default();
    // `"unet": ["diffusers", "UNet2DConditionModel"]`; `[null, null]` for what a model lacks.
    let named = |n: &str| index.get(n).is_some_and(|entry| entry[1].is_string());
    let there = |n: &&str| has(format!("{n}/config.json")) || remote.is_offline() && named(n);
    let mut networks: Vec<&str> = want.networks.iter().copied().filter(there).collect();
    if networks.is_empty() && is_unet(remote) && want.networks.contains(&"unet") {
        networks.push("");
    }
    networks
}

/// The one safetensors file of a folder that names it unusually.
fn only_safetensors(files: &BTreeSet<&str>, folder: &str, want: &Want<'_>) -> Option<Chosen> {
    let plain = |f: &&&str| {
        let name = f.strip_prefix(folder);
        name.is_some_and(|n| !n.contains('/') && n.ends_with(".safetensors"))
    };
    let mut all = files.iter().filter(plain);
    match (all.next(), all.next(), want.variant) {
        (Some(file), None, None) => Some(Chosen::File(file[folder.len()..].to_owned())),
        _ => None,
    }
}

fn no_weights(remote: &Remote, network: &str, want: &Want<'_>) -> hub::Error {
    let id = remote.id().to_string();
    let variant = want
        .variant
        .map_or(String::new(), |v| format!(" of variant `{v}`"));
    let place = match network {
        "" => "at its top".to_owned(),
        network => format!("in {network}/"),
    };
    match remote.is_offline() {
        true => hub::Error::NotCached {
            id,
            what: format!("weights{variant} {place}"),
        },
        false => hub::Error::Unfit {
            id,
            problem: format!("no weights{variant} {place}"),
        },
    }
}
