//! The small files of a checkpoint, which a bundle gets as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::builtin;
use super::index::{FILES, FOLDERS, INDEX, NETWORK_FILES, OWN_FOLDERS};
use super::open::{Layout, Place, Source};
use crate::base::{fsio, json};
use crate::bundle::{Part, Result};
use crate::family::Prediction;
use crate::family::schedule::{self, SchedulerConfig};

/// The scheduler's key for how steps are spread.
const SPACING: &str = "timestep_spacing";

/// The scheduler's configuration.
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// What a file in the bundle is made of.
enum Content {
    Copy(PathBuf),
    Text(String),
}

impl Source {
    /// Puts everything that is not a network into `target`, and returns the files' sha256s.
    pub(in crate::bundle) fn copy_files(
        &self,
        target: &Path,
        parts: &[Part],
    ) -> Result<BTreeMap<String, String>> {
        let mut copied = BTreeMap::new();
        for (name, content) in self.contents(parts)? {
            let to = target.join(&name);
            if let Some(parent) = to.parent() {
                fsio::create_dir_all(parent)?;
            }
            let bytes = match content {
                Content::Copy(from) => fsio::read(&from)?,
                Content::Text(text) => text.into_bytes(),
            };
            fsio::write(&to, &bytes)?;
            copied.insert(name, fsio::sha256_bytes(&bytes));
        }
        Ok(copied)
    }

    /// The files by their paths in the bundle.
    fn contents(&self, parts: &[Part]) -> Result<BTreeMap<String, Content>> {
        let mut contents = BTreeMap::new();
        let own = Some(&self.path).filter(|_| matches!(self.layout, Layout::Diffusers));
        if let Some(dir) = own {
            for name in FILES {
                add(&mut contents, name.to_owned(), dir.join(name));
            }
            for folder in OWN_FOLDERS {
                add_folder(&mut contents, folder, &dir.join(folder))?;
            }
        }
        if let Some(dir) = self.folders().find(|dir| dir.join(INDEX).is_file()) {
            add(&mut contents, INDEX.to_owned(), dir.join(INDEX));
        }
        for folder in FOLDERS {
            if let Some(dir) = self.folders().find(|dir| dir.join(folder).is_dir()) {
                add_folder(&mut contents, folder, &dir.join(folder))?;
            }
        }
        for part in parts {
            let network = part.source_folder();
            if let Some(Place::Folder(dir)) = self.place(network) {
                for name in NETWORK_FILES {
                    add(
                        &mut contents,
                        format!("{}/{name}", part.folder()),
                        dir.join(name),
                    );
                }
            } else {
                let name = format!("{}/config.json", part.folder());
                contents.insert(name, Content::Text(pretty(&self.config(network)?)));
            }
        }
        self.add_family_files(&mut contents)?;
        Ok(contents)
    }

    /// What a single file's family says and no folder did; and what the file itself says of its
    /// schedule, which overrules both.
    fn add_family_files(&self, contents: &mut BTreeMap<String, Content>) -> Result<()> {
        let Layout::File(checkpoint) = &self.layout else {
            return Ok(());
        };
        for name in [INDEX, SCHEDULER] {
            if let Some(text) = builtin::file(checkpoint.family(), name) {
                let text = || Content::Text(text.to_owned());
                contents.entry(name.to_owned()).or_insert_with(text);
            }
        }
        if !checkpoint.v_prediction() && !checkpoint.zero_terminal_snr() {
            return Ok(());
        }
        let Some((path, bytes)) = self.schedule()? else {
            return Ok(());
        };
        let quoted = json::python_words_quoted(&bytes);
        let mut scheduler: Json = json::parse(&quoted, &path, "JSON")?;
        if let Json::Object(fields) = &mut scheduler {
            if checkpoint.v_prediction() {
                fields.insert(
                    "prediction_type".into(),
                    Prediction::VPrediction.name().into(),
                );
            }
            if checkpoint.zero_terminal_snr() {
                fields.insert("rescale_betas_zero_snr".into(), true.into());
                // Steps counted from the clean end never are at the pure noise that a drawing starts
                // from (arXiv 2305.08891, section 3.3).
                let spacing = fields.get(SPACING).and_then(Json::as_str);
                if spacing.is_none_or(|spacing| spacing == "leading") {
                    fields.insert(SPACING.into(), "trailing".into());
                }
            }
        }
        let text = json::python_words_bare(&pretty(&scheduler));
        contents.insert(SCHEDULER.to_owned(), Content::Text(text));
        Ok(())
    }

    /// Refuses a schedule that nothing here could draw or train with: now, before weights are read.
    ///
    /// # Errors
    /// [`Error::Schedule`](crate::bundle::Error::Schedule), naming file and key.
    pub(in crate::bundle) fn check_schedule(&self) -> Result<()> {
        if let Some((path, bytes)) = self.schedule()? {
            SchedulerConfig::parse(&bytes, &path)?;
        }
        // A pipeline makes the class that its index names, whatever the configuration's own says.
        let entry = self.index.as_ref().and_then(|index| index.get("scheduler"));
        if let Some(class) = entry.and_then(|e| e.get(1)).filter(|c| !c.is_null()) {
            let folder = self.folders().find(|dir| dir.join(INDEX).is_file());
            let path = folder.map_or_else(|| INDEX.into(), |dir| dir.join(INDEX));
            schedule::check_class(class, "scheduler", &path)?;
        }
        Ok(())
    }

    /// The scheduler's configuration that the bundle gets, and where it is from.
    fn schedule(&self) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let has_folder = |dir: &&PathBuf| dir.join("scheduler").is_dir();
        let file = self
            .folders()
            .find(has_folder)
            .map(|dir| dir.join(SCHEDULER));
        if let Some(path) = file.filter(|path| path.is_file()) {
            let bytes = fsio::read(&path)?;
            return Ok(Some((path, bytes)));
        }
        let Layout::File(checkpoint) = &self.layout else {
            return Ok(None);
        };
        let own = builtin::file(checkpoint.family(), SCHEDULER);
        Ok(own.map(|text| (PathBuf::from(SCHEDULER), text.as_bytes().to_vec())))
    }
}

fn pretty(json: &Json) -> String {
    format!("{json:#}\n")
}

fn add(contents: &mut BTreeMap<String, Content>, name: String, from: PathBuf) {
    if from.is_file() {
        contents.insert(name, Content::Copy(from));
    }
}

/// Adds the files right in a folder.
fn add_folder(contents: &mut BTreeMap<String, Content>, folder: &str, from: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    let failed = fsio::at("read", from);
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Ok(name) = entry.file_name().into_string() {
            add(contents, format!("{folder}/{name}"), entry.path());
        }
    }
    Ok(())
}
