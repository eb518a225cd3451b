//! Reading adapters of all three formats.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Error, Factors, LoraAdapter, Result, names, shape_error};
use crate::weights::{Tensor, Weights, metadata};

/// What a key is to an adapter.
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

/// Reads an adapter: a safetensors file in any of the formats, or a folder that holds
/// `pytorch_lora_weights.safetensors` (diffusers) or `adapter_model.safetensors` (PEFT).
///
/// # Errors
/// Typed, naming the file and the key; see [`Error`].
pub fn read(path: impl AsRef<Path>) -> Result<LoraAdapter> {
    let path = path.as_ref();
    let inside = [
        "pytorch_lora_weights.safetensors",
        "adapter_model.safetensors",
    ]
    .map(|name| path.join(name))
    .into_iter()
    .find(|file| file.is_file());
    let file = inside.as_deref().unwrap_or(path);
    let weights = Weights::open_files([file])?;
    let mut modules: BTreeMap<String, Parts> = BTreeMap::new();
    for tensor in weights.iter() {
        let (module, role) = classify(file, &tensor.name)?;
        let parts = modules.entry(module.clone()).or_default();
        match role {
            Role::A => parts.a = Some(matrix(file, &module, tensor)?),
            Role::B => parts.b = Some(matrix(file, &module, tensor)?),
            Role::Alpha => parts.alpha = tensor.read_f32()?.first().copied(),
        }
    }
    let config = Config::of(file)?;
    let modules: BTreeMap<String, Factors> = modules
        .into_iter()
        .map(|(module, parts)| {
            let factors = join(file, &module, parts, &config)?;
            Ok((module, factors))
        })
        .collect::<Result<_>>()?;
    if modules.is_empty() {
        return Err(Error::Empty {
            file: file.to_path_buf(),
        });
    }
    Ok(LoraAdapter { modules })
}

/// The module and role of a key, or why it is refused.
fn classify(file: &Path, key: &str) -> Result<(String, Role)> {
    let refuse = |kind| Error::Kind {
        file: file.to_path_buf(),
        key: key.to_owned(),
        kind,
    };
    for (part, kind) in [
        ("hada_", "a LoHa adapter"),
        ("lokr_", "a LoKr adapter"),
        ("dora_scale", "a DoRA adapter"),
        ("lora_magnitude_vector", "a DoRA adapter"),
        ("lora_mid", "a convolution LoRA (LoCon)"),
        ("oft_", "an OFT adapter"),
        (".diff", "a full-difference adapter"),
        ("lora_embedding_", "an embedding LoRA"),
    ] {
        if key.contains(part) {
            return Err(refuse(kind));
        }
    }
    if key.ends_with(".bias") {
        return Err(refuse("a LoRA with biases"));
    }
    if ["lora_te", "text_encoder"]
        .iter()
        .any(|p| key.starts_with(p))
    {
        return Err(refuse("a text encoder's LoRA"));
    }
    let unknown = || Error::Key {
        file: file.to_path_buf(),
        key: key.to_owned(),
    };
    let endings = [
        (".lora_A.weight", Role::A),
        (".lora_B.weight", Role::B),
        (".lora_A.default.weight", Role::A),
        (".lora_B.default.weight", Role::B),
        (".lora.down.weight", Role::A),
        (".lora.up.weight", Role::B),
        ("_lora.down.weight", Role::A),
        ("_lora.up.weight", Role::B),
        (".lora_down.weight", Role::A),
        (".lora_up.weight", Role::B),
        (".alpha", Role::Alpha),
    ];
    for (ending, role) in endings {
        if let Some(module) = key.strip_suffix(ending) {
            let path = if let Some(name) = module.strip_prefix("lora_unet_") {
                names::from_kohya(name).ok_or_else(unknown)?
            } else {
                let module = module.strip_prefix("base_model.model.").unwrap_or(module);
                let module = module.strip_prefix("unet.").unwrap_or(module);
                // Before PEFT, diffusers hung LoRA on attention processors and named the output
                // projection `to_out`.
                let module = module.replace(".processor.", ".");
                if ending.starts_with('_') && module.ends_with(".to_out") {
                    format!("{module}.0")
                } else {
                    module
                }
            };
            return Ok((path, role));
        }
    }
    Err(unknown())
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
            return Err(shape_error(file, module, problem));
        }
    };
    Ok((tensor.read_f32()?, shape))
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
        return Err(shape_error(file, module, problem));
    }
    let alpha = parts.alpha.or_else(|| config.alpha(module));
    Ok(Factors {
        a,
        b,
        rank,
        alpha: alpha.unwrap_or(rank as f32),
    })
}

/// What PEFT's configuration says about alpha, from wherever it stands.
#[derive(Default)]
struct Config {
    alpha: Option<f32>,
    pattern: BTreeMap<String, f32>,
}

impl Config {
    /// From `lora_adapter_metadata` in the header, or `adapter_config.json` beside the file.
    fn of(file: &Path) -> Result<Self> {
        let json = |what, source| Error::Json {
            file: file.to_path_buf(),
            what,
            source,
        };
        if let Some(text) = metadata(file)?.get("lora_adapter_metadata") {
            let what = "lora_adapter_metadata";
            let all: Map<String, Value> =
                serde_json::from_str(text).map_err(|source| json(what, source))?;
            return Ok(Self::from_map(&all, "unet."));
        }
        let beside = file.with_file_name("adapter_config.json");
        if file
            .file_name()
            .is_some_and(|n| n == "adapter_model.safetensors")
            && beside.is_file()
        {
            let bytes = crate::fsio::read(&beside).map_err(crate::weights::Error::from)?;
            let what = "adapter_config.json";
            let all: Map<String, Value> =
                serde_json::from_slice(&bytes).map_err(|source| json(what, source))?;
            return Ok(Self::from_map(&all, ""));
        }
        Ok(Self::default())
    }

    fn from_map(all: &Map<String, Value>, prefix: &str) -> Self {
        let get = |key: &str| all.get(&format!("{prefix}{key}")).or_else(|| all.get(key));
        let number = |v: &Value| v.as_f64().map(|x| x as f32);
        let root_rank = get("use_rslora").and_then(Value::as_bool) == Some(true);
        let rank = get("r").and_then(Value::as_f64).unwrap_or(1.0) as f32;
        // Rank-stabilised LoRA counts alpha / sqrt(r); stated as the alpha of a plain one.
        let factor = if root_rank { rank.sqrt() } else { 1.0 };
        let pattern = get("alpha_pattern").and_then(Value::as_object);
        Self {
            alpha: get("lora_alpha").and_then(number).map(|a| a * factor),
            pattern: pattern
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), number(v)? * factor)))
                .collect(),
        }
    }

    fn alpha(&self, module: &str) -> Option<f32> {
        let named = |(key, alpha): (&String, &f32)| {
            (module == key || module.ends_with(&format!(".{key}"))).then_some(*alpha)
        };
        self.pattern.iter().find_map(named).or(self.alpha)
    }
}
