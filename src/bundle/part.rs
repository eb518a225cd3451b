//! The graphs of a bundle, and the operators they are written with.

use crate::family::Slot;

/// One graph of a bundle.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Part {
    /// CLIP text encoder
    TextEncoder,
    /// SDXL's second text encoder
    #[serde(rename = "text_encoder_2")]
    #[value(name = "text_encoder_2")]
    TextEncoder2,
    /// Denoiser, with LoRA inputs
    Unet,
    /// Training graph: losses and per-sample LoRA gradients
    UnetGrad,
    /// Latents to pictures
    VaeDecoder,
    /// Pictures to latents
    VaeEncoder,
    /// Attribute classifier of the demo world
    Classifier,
    /// CLIP's text tower, for text-image agreement
    ClipText,
    /// CLIP's vision tower, for text-image agreement
    ClipVision,
}

impl Part {
    /// Every part, in the order they are exported.
    pub const ALL: [Part; 9] = [
        Part::TextEncoder,
        Part::TextEncoder2,
        Part::Unet,
        Part::UnetGrad,
        Part::VaeDecoder,
        Part::VaeEncoder,
        Part::Classifier,
        Part::ClipText,
        Part::ClipVision,
    ];

    /// Its name in `--parts` and in `bundle.json`.
    pub fn name(self) -> &'static str {
        match self {
            Part::TextEncoder => "text_encoder",
            Part::TextEncoder2 => "text_encoder_2",
            Part::Unet => "unet",
            Part::UnetGrad => "unet_grad",
            Part::VaeDecoder => "vae_decoder",
            Part::VaeEncoder => "vae_encoder",
            Part::Classifier => "classifier",
            Part::ClipText => "clip_text",
            Part::ClipVision => "clip_vision",
        }
    }

    /// The checkpoint's folder that it is made of.
    pub fn source_folder(self) -> &'static str {
        match self {
            Part::UnetGrad => "unet",
            Part::VaeDecoder | Part::VaeEncoder => "vae",
            Part::ClipText | Part::ClipVision => "clip",
            other => other.name(),
        }
    }

    /// The bundle's folder that it stands in.
    pub fn folder(self) -> &'static str {
        match self {
            Part::ClipText | Part::ClipVision => "clip",
            other => other.name(),
        }
    }

    /// Its model file within [`Part::folder`].
    pub fn file_name(self) -> &'static str {
        match self {
            Part::ClipText => "text_model.onnx",
            Part::ClipVision => "vision_model.onnx",
            _ => "model.onnx",
        }
    }
}

impl From<Slot> for Part {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::First => Part::TextEncoder,
            Slot::Second => Part::TextEncoder2,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which operators a graph is written with.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Standard ONNX operators: CPU, CUDA, TensorRT
    #[default]
    Plain,
    /// ONNX Runtime's fused operators for its CUDA provider, where they pay: UNet, text encoders and
    /// VAE. The training graph stays plain
    Cuda,
}
