//! The configurations of SDXL base and Stable Diffusion 1.5, which single-file checkpoints lack.
//!
//! They are the files of `stabilityai/stable-diffusion-xl-base-1.0` and
//! `stable-diffusion-v1-5/stable-diffusion-v1-5`, without what no network reads. The tokenizers'
//! vocabulary is not among them: `--base` gives it.

use crate::family::Family;

macro_rules! files {
    ($family:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../configs/", $family, "/", $name)))),+]
    };
}

const SDXL: &[(&str, &str)] = files!("sdxl":
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "unet/config.json",
    "vae/config.json",
);
const SD15: &[(&str, &str)] = files!("sd15":
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
);

/// The text of a family's configuration file, by its path in diffusers' layout.
pub(super) fn file(family: Family, name: &str) -> Option<&'static str> {
    let files = match family {
        Family::Sdxl => SDXL,
        Family::Sd15 => SD15,
    };
    files.iter().find(|f| f.0 == name).map(|f| f.1)
}
