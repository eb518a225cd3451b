//! What a file says beside its factors: PEFT's `LoraConfig`, from wherever it stands.
//!
//! Every setting is honoured, known to change nothing in a finished adapter, or refused by name: one
//! that is new to us may change what the factors mean. Read beside PEFT 0.21 (`tuners/lora/config.py`,
//! `tuners/lora/model.py`, `tuners/tuners_utils.py`) and diffusers 0.42 (`loaders/peft.py`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::settings::{Settings, bad};
use super::target::Targets;
use super::{Error, Result};
use crate::tensors::metadata;

/// Settings that [`Config`] or [`Targets`] read.
const READ: [&str; 9] = [
    "alpha_pattern",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
];
/// Settings of how an adapter was trained, or begun where that leaves the weights as they were. Linear
/// layers of torch are never stored [in, out]: PEFT unsets `fan_in_fan_out` for them.
const WITHOUT_EFFECT: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];
/// Settings that make another kind of adapter, where they are set.
const KINDS: [(&str, &str); 9] = [
    ("bias", "a LoRA with biases"),
    ("layer_replication", "an adapter that repeats layers"),
    ("lora_bias", "a LoRA with biases"),
    ("modules_to_save", "an adapter that replaces whole modules"),
    ("peft_type", "an adapter of PEFT's other kinds"),
    ("target_parameters", "an adapter of bare parameters"),
    ("trainable_token_indices", "an adapter of token embeddings"),
    ("use_dora", "a DoRA adapter"),
    (
        "init_lora_weights",
        "a LoRA trained on other weights than the model's",
    ),
];
/// How factors may begin without a change to the model's weights.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
/// PEFT's `lora_alpha` where a configuration doesn't say it.
const ALPHA: f32 = 8.0;

/// The configurations of a file.
pub(super) struct Configs {
    all: Map<String, Value>,
    /// Where they stand.
    file: PathBuf,
    /// PEFT finds the layers by its settings, diffusers by the file's keys.
    by_settings: bool,
}

impl Configs {
    /// From `adapter_config.json` beside PEFT's file, or `lora_adapter_metadata` in the header.
    ///
    /// # Errors
    /// [`Error::Json`] and [`Error::Kind`].
    pub(super) fn of(file: &Path) -> Result<Self> {
        let json = |what, source| Error::Json {
            file: file.to_path_buf(),
            what,
            source,
        };
        let beside = beside(file);
        let all = if let Some(beside) = &beside {
            let bytes = crate::base::fsio::read(beside).map_err(crate::tensors::Error::from)?;
            serde_json::from_slice(&bytes).map_err(|e| json("adapter_config.json", e))?
        } else if let Some(text) = header(file)? {
            serde_json::from_str(&text).map_err(|e| json("lora_adapter_metadata", e))?
        } else {
            Map::new()
        };
        let configs = Self {
            all,
            by_settings: beside.is_some(),
            file: beside.unwrap_or_else(|| file.to_path_buf()),
        };
        configs.refuse_other_kinds()?;
        Ok(configs)
    }

    /// An adapter whose factors look plain but count otherwise.
    fn refuse_other_kinds(&self) -> Result<()> {
        for (key, value) in &self.all {
            let name = key.rsplit('.').next().unwrap_or(key);
            if READ.contains(&name) || WITHOUT_EFFECT.contains(&name) || plain(name, value) {
                continue;
            }
            let kind = KINDS.iter().find(|(setting, _)| *setting == name);
            return Err(Error::Kind {
                file: self.file.clone(),
                key: format!("{key}: {value}"),
                kind: kind.map_or("an adapter with settings unknown here", |(_, kind)| kind),
            });
        }
        Ok(())
    }

    /// What they say about one network; nothing where they don't speak of it.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub(super) fn of_network(&self, network: &str) -> Result<Option<Config>> {
        let prefix = format!("{network}.");
        let own: Vec<_> = match self.all.keys().any(|k| k.starts_with(&prefix)) {
            true => self
                .all
                .iter()
                .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?, v)))
                .collect(),
            false => self.all.iter().map(|(k, v)| (k.as_str(), v)).collect(),
        };
        let settings = Settings {
            own,
            file: &self.file,
        };
        match settings.own.iter().any(|(key, _)| !key.contains('.')) {
            true => Config::of(&settings, self.by_settings).map(Some),
            false => Ok(None),
        }
    }
}

/// Whether a setting is one of a plain LoRA, or isn't set, as Python tells.
fn plain(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("peft_type", Value::String(kind)) => kind == "LORA",
        ("bias", Value::String(which)) => which == "none",
        ("init_lora_weights", Value::Bool(_)) => true,
        ("init_lora_weights", Value::String(start)) => STARTS.contains(&start.as_str()),
        (_, Value::Null | Value::Bool(false)) => true,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Array(items)) => items.is_empty(),
        (_, Value::Object(entries)) => entries.is_empty(),
        _ => false,
    }
}

/// PEFT's configuration beside its weight file.
fn beside(file: &Path) -> Option<PathBuf> {
    let peft = file.file_name()?.to_str()?.starts_with("adapter_model.");
    let path = file.with_file_name("adapter_config.json");
    (peft && path.is_file()).then_some(path)
}

/// diffusers' configuration in the header of a safetensors file.
fn header(file: &Path) -> Result<Option<String>> {
    match crate::tensors::is_torch(file) {
        true => Ok(None),
        false => Ok(metadata(file)?.remove("lora_adapter_metadata")),
    }
}

/// What is said about one network.
pub(super) struct Config {
    file: PathBuf,
    alpha: f32,
    alphas: Vec<(Pattern, f32)>,
    rank: Option<u64>,
    ranks: Vec<(Pattern, u64)>,
    /// Rank-stabilised LoRA counts alpha / sqrt(r).
    root_rank: bool,
    targets: Option<Targets>,
}

impl Config {
    fn of(settings: &Settings<'_>, by_settings: bool) -> Result<Self> {
        let number = |v: &Value| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        let rank = |v: &Value| v.as_u64().filter(|&r| r > 0);
        let ranks = "a rank of at least 1";
        Ok(Self {
            file: settings.file.to_path_buf(),
            alpha: settings
                .typed("lora_alpha", "a number", number)?
                .unwrap_or(ALPHA),
            alphas: settings.patterns("alpha_pattern", "a number", number)?,
            rank: settings.typed("r", ranks, rank)?,
            ranks: settings.patterns("rank_pattern", ranks, rank)?,
            root_rank: settings.typed("use_rslora", "true or false", Value::as_bool)? == Some(true),
            targets: by_settings.then(|| Targets::of(settings)).transpose()?,
        })
    }

    /// The alpha of a module of rank `rank`, as a plain LoRA would state it. `name` is the module's
    /// name as PEFT matches it.
    ///
    /// # Errors
    /// [`Error::Setting`] for a module that is not targeted or of another rank.
    pub(super) fn alpha(&self, name: &str, rank: usize) -> Result<f32> {
        if let Some(targets) = &self.targets {
            targets
                .check(name)
                .map_err(|(key, problem)| bad(&self.file, key, problem))?;
        }
        let stated = self.first("rank_pattern", &self.ranks, name)?.or(self.rank);
        if let Some(stated) = stated.filter(|&r| r != rank as u64) {
            let problem = format!("is {stated} for `{name}`, whose factors have rank {rank}");
            return Err(bad(&self.file, "r", problem));
        }
        let alpha = self.first("alpha_pattern", &self.alphas, name)?;
        let factor = if self.root_rank {
            (rank as f32).sqrt()
        } else {
            1.0
        };
        Ok(alpha.unwrap_or(self.alpha) * factor)
    }

    /// The value of the first expression that matches: PEFT stops there.
    fn first<T: Copy>(
        &self,
        key: &str,
        patterns: &[(Pattern, T)],
        name: &str,
    ) -> Result<Option<T>> {
        for (pattern, value) in patterns {
            let matches = pattern.matches(name);
            if matches.map_err(|problem| bad(&self.file, key, problem))? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}
