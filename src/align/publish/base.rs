//! The model that a LoRA is for, as the hub and kohya's tools name it.

use std::path::Path;

use serde_json::{Value, json};

use crate::align::Result;
use crate::bundle::Bundle;
use crate::hub;
use crate::lora::KohyaNames;

/// What a bundle was made of.
pub(super) struct Base {
    /// Its id on the hub, where it came from there.
    pub(super) id: Option<String>,
    /// That, or the name of its folder or file.
    pub(super) name: String,
    /// diffusers' class of its pipeline.
    pub(super) pipeline: String,
    /// How kohya names its blocks.
    pub(super) naming: KohyaNames,
    /// kohya's word for it, and Stability AI's for its architecture.
    pub(super) family: Option<Family>,
}

/// A model that kohya's tools know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    /// `ss_base_model_version`.
    pub(super) version: &'static str,
    /// `modelspec.architecture`, before `/lora`.
    pub(super) architecture: &'static str,
    /// `modelspec.implementation` (sd-scripts, `library/sai_model_spec.py`).
    pub(super) implementation: &'static str,
    /// The hub's tag.
    pub(super) tag: &'static str,
}

const SDXL: Family = Family {
    version: "sdxl_base_v1-0",
    architecture: "stable-diffusion-xl-v1-base",
    implementation: "https://github.com/Stability-AI/generative-models",
    tag: "stable-diffusion-xl",
};
const SD_1: Family = Family {
    version: "sd_v1",
    architecture: "stable-diffusion-v1",
    implementation: "diffusers",
    tag: "stable-diffusion",
};

impl Base {
    /// Reads it off a bundle.
    pub(super) fn of(bundle: &Bundle) -> Result<Self> {
        let manifest = bundle.config();
        let id = hub::repository_of(&manifest.source);
        let (naming, family) = kohya(&bundle.json("unet/config.json")?);
        Ok(Self {
            name: id.clone().unwrap_or_else(|| name(&manifest.source)),
            id,
            pipeline: manifest
                .pipeline
                .clone()
                .unwrap_or_else(|| "DiffusionPipeline".to_owned()),
            naming,
            family,
        })
    }
}

/// The last part of a path, without a weight file's ending.
fn name(source: &Path) -> String {
    let part = match source.is_dir() {
        true => source.file_name(),
        false => source.file_stem(),
    };
    part.map_or_else(
        || "a model".to_owned(),
        |part| part.to_string_lossy().into_owned(),
    )
}

/// How kohya names the blocks and the base of a UNet with this configuration.
fn kohya(unet: &Value) -> (KohyaNames, Option<Family>) {
    let is = |key: &str, value: Value| unet.get(key) == Some(&value);
    if is("block_out_channels", json!([320, 640, 1280]))
        && is("addition_embed_type", json!("text_time"))
    {
        (KohyaNames::Sgm, Some(SDXL))
    } else if is("block_out_channels", json!([320, 640, 1280, 1280]))
        && is("cross_attention_dim", json!(768))
    {
        (KohyaNames::Diffusers, Some(SD_1))
    } else {
        (KohyaNames::Diffusers, None)
    }
}
