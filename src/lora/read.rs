//! Reading adapters of all three formats.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Error, Factors, LoraAdapter, Result, names};
use crate::tensors::{Tensor, Weights, metadata};

/// What a key is to an adapter.
#[derive(Clone, Copy)]
enum Role {
    A,
    B,
    Alpha,
}

/// Parts of one module as they are found.
#[derive(Default)]
struct Parts {
    a: Option<(Vec<f32>, [usize; 2])>,
    b: Option<(Vec<f32>, [usize; 2])>,
    alpha: Option<f32>,
}

/// The adapters of a file, by the network they change (diffusers' folder).
pub type Adapters = BTreeMap<&'static str, LoraAdapter>;

/// Reads an adapter of a UNet: a safetensors file in any of the formats, or a folder that holds
/// `pytorch_lora_weights.safetensors` (diffusers) or `adapter_model.safetensors` (PEFT).
///
/// # Errors
/// Typed, naming the file and the key; see [`Error`]. One that changes a text encoder is refused.
pub fn read(path: impl AsRef<Path>) -> Result<LoraAdapter> {
    let adapters = collect(path.as_ref(), false)?;
    Ok(adapters.into_values().next().unwrap_or_default())
}

/// Reads the adapters of all networks in a file or folder, as [`read`].
///
/// # Errors
/// Typed, naming the file and the key; see [`Error`].
pub fn read_all(path: impl AsRef<Path>) -> Result<Adapters> {
    collect(path.as_ref(), true)
}

fn collect(path: &Path, text: bool) -> Result<Adapters> {
    let inside = [
        "pytorch_lora_weights.safetensors",
        "adapter_model.safetensors",
    ]
    .map(|name| path.join(name))
    .into_iter()
    .find(|file| file.is_file());
    let file = inside.as_deref().unwrap_or(path);
    let weights = Weights::open_files([file])?;
    let mut modules: BTreeMap<(&'static str, String), Parts> = BTreeMap::new();
    for tensor in weights.iter() {
        let (network, module, role) = classify(file, &tensor.name)?;
        if network != UNET && !text {
            return Err(Error::Kind {
                file: file.to_path_buf(),
                key: tensor.name.clone(),
                kind: "a text encoder's LoRA",
            });
        }
        let parts = modules.entry((network, module.clone())).or_default();
        let there = match role {
            Role::A => parts.a.replace(matrix(file, &module, tensor)?).is_some(),
            Role::B => parts.b.replace(matrix(file, &module, tensor)?).is_some(),
            Role::Alpha => parts
                .alpha
                .replace(number(file, &module, tensor)?)
                .is_some(),
        };
        if there {
            return Err(Error::Twice {
                file: file.to_path_buf(),
                key: tensor.name.clone(),
                module,
            });
        }
    }
    let configs = Configs::of(file)?;
    let mut adapters = Adapters::new();
    for ((network, module), parts) in modules {
        let factors = join(file, &module, parts, &configs.of_network(network))?;
        let adapter = adapters.entry(network).or_default();
        adapter.modules.insert(module, factors);
    }
    if adapters.is_empty() {
        return Err(Error::Empty {
            file: file.to_path_buf(),
        });
    }
    Ok(adapters)
}

/// diffusers' folders of the networks that adapters change.
const UNET: &str = "unet";
const TEXT: &str = "text_encoder";
const TEXT_2: &str = "text_encoder_2";

/// Parts of keys that tell what is not a plain LoRA.
const OTHER_KINDS: [(&str, &str); 8] = [
    ("hada_", "a LoHa adapter"),
    ("lokr_", "a LoKr adapter"),
    ("dora_scale", "a DoRA adapter"),
    ("lora_magnitude_vector", "a DoRA adapter"),
    ("lora_mid", "a convolution LoRA (LoCon)"),
    ("oft_", "an OFT adapter"),
    (".diff", "a full-difference adapter"),
    ("lora_embedding_", "an embedding LoRA"),
];
/// How keys end, in all formats.
const ENDINGS: [(&str, Role); 13] = [
    (".lora_A.weight", Role::A),
    (".lora_B.weight", Role::B),
    (".lora_A.default.weight", Role::A),
    (".lora_B.default.weight", Role::B),
    (".lora.down.weight", Role::A),
    (".lora.up.weight", Role::B),
    (".lora_linear_layer.down.weight", Role::A),
    (".lora_linear_layer.up.weight", Role::B),
    ("_lora.down.weight", Role::A),
    ("_lora.up.weight", Role::B),
    (".lora_down.weight", Role::A),
    (".lora_up.weight", Role::B),
    (".alpha", Role::Alpha),
];

/// The network, module and role of a key, or why it is refused.
fn classify(file: &Path, key: &str) -> Result<(&'static str, String, Role)> {
    let refuse = |kind| Error::Kind {
        file: file.to_path_buf(),
        key: key.to_owned(),
        kind,
    };
    let unknown = || Error::Key {
        file: file.to_path_buf(),
        key: key.to_owned(),
    };
    if let Some((_, kind)) = OTHER_KINDS.iter().find(|(part, _)| key.contains(part)) {
        return Err(refuse(kind));
    }
    if key.ends_with(".bias") {
        return Err(refuse("a LoRA with biases"));
    }
    let ended = |&(ending, role): &(&'static str, Role)| {
        let module = key.strip_suffix(ending)?;
        Some((module, ending.starts_with('_'), role))
    };
    let (module, old, role) = ENDINGS.iter().find_map(ended).ok_or_else(unknown)?;
    if let Some(name) = module.strip_prefix("lora_unet_") {
        return match names::from_kohya(name) {
            Some(path) => Ok((UNET, path, role)),
            None if names::is_residual(name) => {
                Err(refuse("a LoRA of convolutions and residual blocks (LoCon)"))
            }
            None => Err(unknown()),
        };
    }
    for (prefix, network) in [
        ("lora_te1_", TEXT),
        ("lora_te2_", TEXT_2),
        ("lora_te_", TEXT),
    ] {
        if let Some(name) = module.strip_prefix(prefix) {
            let path = names::text_from_kohya(name).ok_or_else(unknown)?;
            return Ok((network, path, role));
        }
    }
    for (prefix, network) in [("text_encoder.", TEXT), ("text_encoder_2.", TEXT_2)] {
        if let Some(module) = module.strip_prefix(prefix) {
            return Ok((network, text_path(module, old), role));
        }
    }
    Ok((UNET, unet_path(module, old), role))
}

/// A UNet's module as diffusers names it today. Before PEFT, LoRA hung on attention processors and
/// the output projection was named `to_out`.
fn unet_path(module: &str, old: bool) -> String {
    let module = module.strip_prefix("base_model.model.").unwrap_or(module);
    let module = module.strip_prefix("unet.").unwrap_or(module);
    let module = module.replace(".processor.", ".");
    if old && module.ends_with(".to_out") {
        format!("{module}.0")
    } else {
        module
    }
}

/// A text encoder's module as transformers names it: diffusers once named the projections as the
/// UNet's.
fn text_path(module: &str, old: bool) -> String {
    let projections = [
        (".to_q", ".q_proj"),
        (".to_k", ".k_proj"),
        (".to_v", ".v_proj"),
        (".to_out", ".out_proj"),
    ];
    let renamed = projections.iter().find_map(|(from, to)| {
        let before = module.strip_suffix(from)?;
        old.then(|| format!("{before}{to}"))
    });
    renamed.unwrap_or_else(|| module.to_owned())
}

/// A factor's values and its two dimensions. 1×1 convolutions are linear layers.
fn matrix(file: &Path, module: &str, tensor: &Tensor) -> Result<(Vec<f32>, [usize; 2])> {
    let shape = match tensor.shape.as_slice() {
        [rows, columns] | [rows, columns, 1, 1] if *rows > 0 && *columns > 0 => {
            [*rows as usize, *columns as usize]
        }
        [_, _, _, _] => {
            return Err(Error::Kind {
                file: file.to_path_buf(),
                key: tensor.name.clone(),
                kind: "a convolution LoRA",
            });
        }
        other => {
            let problem = format!("`{}` is {other:?}, expected a matrix", tensor.name);
            return Err(Error::shape(file, module, problem));
        }
    };
    Ok((tensor.read_f32()?, shape))
}

/// An alpha's value.
fn number(file: &Path, module: &str, tensor: &Tensor) -> Result<f32> {
    if tensor.elements() != 1 {
        let problem = format!(
            "`{}` is {:?}, expected one number",
            tensor.name, tensor.shape
        );
        return Err(Error::shape(file, module, problem));
    }
    Ok(tensor.read_f32()?[0])
}

fn join(file: &Path, module: &str, parts: Parts, config: &Config) -> Result<Factors> {
    let half = |missing| Error::Half {
        file: file.to_path_buf(),
        module: module.to_owned(),
        missing,
    };
    let (a, [rank, _]) = parts.a.ok_or_else(|| half("A (down)"))?;
    let (b, [outputs, b_rank]) = parts.b.ok_or_else(|| half("B (up)"))?;
    if rank != b_rank {
        let problem = format!("A has rank {rank}, B is [{outputs}, {b_rank}]");
        return Err(Error::shape(file, module, problem));
    }
    let alpha = parts.alpha.or_else(|| config.alpha(module, rank));
    Ok(Factors {
        a,
        b,
        rank,
        alpha: alpha.unwrap_or(rank as f32),
    })
}

/// What a file says beside its factors: PEFT's configuration, from wherever it stands.
#[derive(Default)]
struct Configs(Map<String, Value>);

impl Configs {
    /// From `lora_adapter_metadata` in the header, or `adapter_config.json` beside the file.
    fn of(file: &Path) -> Result<Self> {
        let json = |what, source| Error::Json {
            file: file.to_path_buf(),
            what,
            source,
        };
        let all: Map<String, Value> = if let Some(text) =
            metadata(file)?.get("lora_adapter_metadata")
        {
            serde_json::from_str(text).map_err(|e| json("lora_adapter_metadata", e))?
        } else if let Some(beside) = beside(file) {
            let bytes = crate::base::fsio::read(&beside).map_err(crate::tensors::Error::from)?;
            serde_json::from_slice(&bytes).map_err(|e| json("adapter_config.json", e))?
        } else {
            Map::new()
        };
        let configs = Self(all);
        configs.refuse_other_kinds(file)?;
        Ok(configs)
    }

    /// An adapter whose factors look plain but count otherwise.
    fn refuse_other_kinds(&self, file: &Path) -> Result<()> {
        for (key, value) in &self.0 {
            let kind = match key.rsplit('.').next() {
                Some("use_dora") if value.as_bool() == Some(true) => "a DoRA adapter",
                Some("peft_type") if value.as_str().is_some_and(|kind| kind != "LORA") => {
                    "an adapter of PEFT's other kinds"
                }
                _ => continue,
            };
            return Err(Error::Kind {
                file: file.to_path_buf(),
                key: format!("{key}: {value}"),
                kind,
            });
        }
        Ok(())
    }

    /// What it says about one network.
    fn of_network(&self, network: &str) -> Config {
        let get = |key: &str| {
            let named = self.0.get(&format!("{network}.{key}"));
            named.or_else(|| self.0.get(key))
        };
        let number = |v: &Value| v.as_f64().map(|x| x as f32);
        let pattern = get("alpha_pattern").and_then(Value::as_object);
        Config {
            root_rank: get("use_rslora").and_then(Value::as_bool) == Some(true),
            alpha: get("lora_alpha").and_then(number),
            pattern: pattern
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), number(v)?)))
                .collect(),
        }
    }
}

/// PEFT's configuration beside its weight file.
fn beside(file: &Path) -> Option<PathBuf> {
    let peft = file.file_name()? == "adapter_model.safetensors";
    let path = file.with_file_name("adapter_config.json");
    (peft && path.is_file()).then_some(path)
}

/// What is said about the alphas of one network.
#[derive(Default)]
struct Config {
    alpha: Option<f32>,
    pattern: BTreeMap<String, f32>,
    /// Rank-stabilised LoRA counts alpha / sqrt(r).
    root_rank: bool,
}

impl Config {
    /// The alpha of a module of rank `rank`, as a plain LoRA would state it. Ranks may differ
    /// (`rank_pattern`); the factors tell them.
    fn alpha(&self, module: &str, rank: usize) -> Option<f32> {
        let named = |(key, alpha): (&String, &f32)| {
            (module == key || module.ends_with(&format!(".{key}"))).then_some(*alpha)
        };
        let alpha = self.pattern.iter().find_map(named).or(self.alpha)?;
        let factor = if self.root_rank {
            (rank as f32).sqrt()
        } else {
            1.0
        };
        Some(alpha * factor)
    }
}
