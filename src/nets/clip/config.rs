//! CLIP's configurations (transformers `configuration_clip.py`), with the library's defaults.

use serde::{Deserialize, Serialize};

use crate::nets::Result;
use crate::nets::config::Config;
use crate::nets::layers::Activation;

const ACTIVATIONS: &str = "gelu, quick_gelu, relu, silu";

/// `CLIPTextConfig`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are transformers' own")]
pub struct ClipTextConfig {
    pub vocab_size: u64,
    pub hidden_size: u64,
    pub intermediate_size: u64,
    pub projection_dim: u64,
    pub num_hidden_layers: u64,
    pub num_attention_heads: u64,
    pub max_position_embeddings: u64,
    pub hidden_act: String,
    pub layer_norm_eps: f32,
    /// 2 stands for the rule of before transformers 4.31: the token with the highest id.
    pub eos_token_id: i64,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl Config for ClipTextConfig {
    const NETWORK: &'static str = "CLIPTextModel";

    fn check(&self) -> Result<()> {
        self.layers().map(drop)
    }
}

impl ClipTextConfig {
    pub(super) fn layers(&self) -> Result<Layers> {
        layers::<Self>(
            &self.hidden_act,
            self.num_hidden_layers,
            [
                self.hidden_size,
                self.intermediate_size,
                self.num_attention_heads,
            ],
            self.layer_norm_eps,
        )
    }
}

/// `CLIPVisionConfig`. Image and patch sizes are squares.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are transformers' own")]
pub struct ClipVisionConfig {
    pub hidden_size: u64,
    pub intermediate_size: u64,
    pub projection_dim: u64,
    pub num_hidden_layers: u64,
    pub num_attention_heads: u64,
    pub num_channels: u64,
    pub image_size: u64,
    pub patch_size: u64,
    pub hidden_act: String,
    pub layer_norm_eps: f32,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl Config for ClipVisionConfig {
    const NETWORK: &'static str = "CLIPVisionModel";

    fn check(&self) -> Result<()> {
        let fits = self.patch_size > 0 && self.image_size >= self.patch_size;
        Self::require(fits, "patch_size", || {
            format!(
                "patches of {} in images of {}",
                self.patch_size, self.image_size
            )
        })?;
        self.layers().map(drop)
    }
}

impl ClipVisionConfig {
    pub(super) fn layers(&self) -> Result<Layers> {
        layers::<Self>(
            &self.hidden_act,
            self.num_hidden_layers,
            [
                self.hidden_size,
                self.intermediate_size,
                self.num_attention_heads,
            ],
            self.layer_norm_eps,
        )
    }

    /// Number of patches of an image.
    pub fn patches(&self) -> u64 {
        (self.image_size / self.patch_size).pow(2)
    }
}

/// `CLIPConfig`: both towers and the width of the space they share.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ClipConfig {
    text_config: ClipTextConfig,
    vision_config: ClipVisionConfig,
    projection_dim: Option<u64>,
}

impl Config for ClipConfig {
    const NETWORK: &'static str = "CLIPModel";

    fn check(&self) -> Result<()> {
        self.text().check()?;
        self.vision().check()
    }
}

impl ClipConfig {
    /// Both towers and the width of the space they share, which overrules what they say of it.
    pub fn new(text: ClipTextConfig, vision: ClipVisionConfig, projection_dim: u64) -> Self {
        Self {
            text_config: text,
            vision_config: vision,
            projection_dim: Some(projection_dim),
        }
    }

    /// transformers' default width of the shared space.
    const PROJECTION: u64 = 512;

    /// The text tower, projecting to the shared space.
    pub fn text(&self) -> ClipTextConfig {
        let projection_dim = self.projection_dim.unwrap_or(Self::PROJECTION);
        ClipTextConfig {
            projection_dim,
            ..self.text_config.clone()
        }
    }

    /// The vision tower, projecting to the shared space.
    pub fn vision(&self) -> ClipVisionConfig {
        let projection_dim = self.projection_dim.unwrap_or(Self::PROJECTION);
        ClipVisionConfig {
            projection_dim,
            ..self.vision_config.clone()
        }
    }
}

/// The sizes that both towers' layers have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers {
    pub(super) count: u64,
    pub(super) width: u64,
    pub(super) inner: u64,
    pub(super) heads: u64,
    pub(super) activation: Activation,
    pub(super) epsilon: f32,
}

/// The layers of a tower, if its numbers fit.
fn layers<C: Config>(
    activation: &str,
    count: u64,
    [width, inner, heads]: [u64; 3],
    epsilon: f32,
) -> Result<Layers> {
    let activation = Activation::by_name(activation)
        .ok_or_else(|| C::unsupported("hidden_act", activation, ACTIVATIONS))?;
    C::require(
        heads > 0 && width.is_multiple_of(heads),
        "num_attention_heads",
        || format!("{heads} heads don't divide hidden_size {width}"),
    )?;
    Ok(Layers {
        count,
        width,
        inner,
        heads,
        activation,
        epsilon,
    })
}
