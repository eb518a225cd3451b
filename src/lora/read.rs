//! Reading adapters of all formats.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{Config, Configs};
use super::{Error, Factors, LoraAdapter, Result, names};
use crate::tensors::{Tensor, Weights};

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
    /// The module as PEFT names it, for the expressions in its configuration.
    named: String,
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
        "adapter_model.bin",
        "pytorch_lora_weights.bin",
    ]
    .map(|name| path.join(name))
    .into_iter()
    .find(|file| file.is_file());
    let file = inside.as_deref().unwrap_or(path);
    let configs = Configs::of(file)?;
    let weights = Weights::open_files([file])?;
    let mut modules: BTreeMap<(&'static str, String), Parts> = BTreeMap::new();
    for tensor in weights.iter() {
        let Key {
            network,
            module,
            named,
            role,
        } = classify(file, &tensor.name, text)?;
        let parts = modules.entry((network, module.clone())).or_default();
        parts.named = named;
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
    let mut adapters = Adapters::new();
    for ((network, module), parts) in modules {
        let config = configs.of_network(network)?;
        let factors = join(file, &module, parts, config.as_ref())?;
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
const OTHER_KINDS: [(&str, &str); 7] = [
    ("hada_", "a LoHa adapter"),
    ("lokr_", "a LoKr adapter"),
    ("dora_scale", "a DoRA adapter"),
    ("lora_magnitude_vector", "a DoRA adapter"),
    ("lora_mid", "a convolution LoRA (LoCon)"),
    ("oft_", "an OFT adapter"),
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

/// What a key says.
struct Key {
    network: &'static str,
    module: String,
    named: String,
    role: Role,
}

/// What a key says, or why it is refused; a text encoder's where `text` isn't asked for.
fn classify(file: &Path, key: &str, text: bool) -> Result<Key> {
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
    if key.ends_with(".diff") || key.ends_with(".diff_b") {
        return Err(refuse("a full-difference adapter"));
    }
    if key.ends_with(".bias") {
        return Err(refuse("a LoRA with biases"));
    }
    let ended = |&(ending, role): &(&'static str, Role)| {
        let module = key.strip_suffix(ending)?;
        Some((module, ending.starts_with('_'), role))
    };
    let (full, old, role) = ENDINGS.iter().find_map(ended).ok_or_else(unknown)?;
    let (place, rest) = Place::of(full);
    let module = match place {
        Place::Kohya(UNET) => names::from_kohya(rest),
        Place::Kohya(_) => names::text_from_kohya(rest),
        Place::Dotted(UNET) => unet_path(rest, old),
        Place::Dotted(_) => Some(text_path(rest, old)),
    };
    let network = match place {
        Place::Kohya(network) | Place::Dotted(network) => network,
    };
    if !text && (network != UNET || names::is_text(rest)) {
        return Err(Error::TextEncoder {
            file: file.to_path_buf(),
            key: key.to_owned(),
        });
    }
    match module {
        Some(module) => Ok(Key {
            network,
            named: full.strip_prefix(PEFT).unwrap_or(rest).to_owned(),
            module,
            role,
        }),
        None if network != UNET => Err(unknown()),
        None if names::is_text(rest) => Err(refuse(
            "a text encoder's LoRA that doesn't say of which encoder (`text_encoder.` or \
             `text_encoder_2.` before its names)",
        )),
        None if names::is_residual(&rest.replace('.', "_")) => {
            Err(refuse("a LoRA of convolutions and residual blocks (LoCon)"))
        }
        None => Err(unknown()),
    }
}

/// What PEFT puts before a module's name.
const PEFT: &str = "base_model.model.";
/// What stands before the modules' names of each network: kohya's, then those with dots, of diffusers and
/// ComfyUI.
const PLACES: [(&str, Place); 10] = [
    ("lora_unet_", Place::Kohya(UNET)),
    ("lora_te1_", Place::Kohya(TEXT)),
    ("lora_te2_", Place::Kohya(TEXT_2)),
    ("lora_te_", Place::Kohya(TEXT)),
    ("text_encoder.", Place::Dotted(TEXT)),
    ("text_encoder_2.", Place::Dotted(TEXT_2)),
    ("text_encoders.clip_l.transformer.", Place::Dotted(TEXT)),
    ("text_encoders.clip_g.transformer.", Place::Dotted(TEXT_2)),
    ("model.diffusion_model.", Place::Dotted(UNET)),
    ("diffusion_model.", Place::Dotted(UNET)),
];

/// A network, and how its modules are named.
#[derive(Clone, Copy)]
enum Place {
    Kohya(&'static str),
    Dotted(&'static str),
}

impl Place {
    /// The place of a module, and its name there.
    fn of(full: &str) -> (Self, &str) {
        let plain = full.strip_prefix(PEFT).unwrap_or(full);
        let placed = |&(prefix, place): &(&str, Self)| Some((place, plain.strip_prefix(prefix)?));
        PLACES.iter().find_map(placed).unwrap_or((
            Self::Dotted(UNET),
            plain.strip_prefix("unet.").unwrap_or(plain),
        ))
    }
}

/// A UNet's module as diffusers names it today; nothing for what is none. Before PEFT, LoRA hung on
/// attention processors and the output projection was named `to_out`.
fn unet_path(module: &str, old: bool) -> Option<String> {
    if names::is_original(module) {
        return names::from_kohya(&module.replace('.', "_"));
    }
    let module = module.replace(".processor.", ".");
    let module = match old && module.ends_with(".to_out") {
        true => format!("{module}.0"),
        false => module,
    };
    names::is_unet(&module).then_some(module)
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
    Ok(tensor.read_number()?)
}

fn join(file: &Path, module: &str, parts: Parts, config: Option<&Config>) -> Result<Factors> {
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
    let stated = config.map(|c| c.alpha(&parts.named, rank)).transpose()?;
    if let (Some(key), Some(setting)) = (parts.alpha, stated)
        && key != setting
    {
        let problem = format!("its alpha is {key} by its key and {setting} by the configuration");
        return Err(Error::shape(file, module, problem));
    }
    let alpha = parts.alpha.or(stated).unwrap_or(rank as f32);
    Ok(Factors { a, b, rank, alpha })
}
