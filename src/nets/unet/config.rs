//! `UNet2DConditionModel`'s configuration, with diffusers' defaults.

use serde::{Deserialize, Serialize};

use crate::family::TEXT_TIME;
use crate::nets::config::{Config, PerBlock, yes};
use crate::nets::{Error, Result};

/// What of `UNet2DConditionModel`'s configuration the Stable Diffusion families use.
///
/// Block types are kept as the strings of the file; [`Config::check`] refuses unknown ones.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the names are diffusers' own")]
pub struct UnetConfig {
    #[serde(default = "four")]
    pub in_channels: u64,
    #[serde(default = "four")]
    pub out_channels: u64,
    #[serde(default)]
    pub center_input_sample: bool,
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    #[serde(default)]
    pub freq_shift: f32,
    #[serde(default = "down_block_types")]
    pub down_block_types: Vec<String>,
    #[serde(default = "mid_block_type")]
    pub mid_block_type: Option<String>,
    #[serde(default = "up_block_types")]
    pub up_block_types: Vec<String>,
    #[serde(default = "block_out_channels")]
    pub block_out_channels: Vec<u64>,
    #[serde(default = "two")]
    pub layers_per_block: PerBlock<u64>,
    #[serde(default = "one")]
    pub downsample_padding: u64,
    #[serde(default = "unit")]
    pub mid_block_scale_factor: f32,
    #[serde(default = "groups")]
    pub norm_num_groups: u64,
    #[serde(default = "epsilon")]
    pub norm_eps: f32,
    #[serde(default = "cross_attention_dim")]
    pub cross_attention_dim: PerBlock<u64>,
    #[serde(default = "one_each")]
    pub transformer_layers_per_block: PerBlock<u64>,
    /// The number of heads, despite its name (diffusers issue 2011).
    #[serde(default = "attention_head_dim")]
    pub attention_head_dim: PerBlock<u64>,
    #[serde(default)]
    pub use_linear_projection: bool,
    #[serde(default)]
    pub addition_embed_type: Option<String>,
    #[serde(default)]
    pub addition_time_embed_dim: Option<u64>,
    #[serde(default)]
    pub projection_class_embeddings_input_dim: Option<u64>,
    #[serde(default)]
    pub time_embedding_dim: Option<u64>,
    #[serde(default = "three")]
    pub conv_in_kernel: u64,
    #[serde(default = "three")]
    pub conv_out_kernel: u64,
}

/// Height and width of the latents that a UNet was trained at, from its `config.json`: one number
/// for both, or a pair. Nothing if it doesn't say.
pub fn sample_size(config: &serde_json::Value) -> Option<[u64; 2]> {
    let sides = match config.get("sample_size")? {
        serde_json::Value::Array(sides) => match &sides[..] {
            [height, width] => [height.as_u64()?, width.as_u64()?],
            _ => return None,
        },
        side => [side.as_u64()?; 2],
    };
    (!sides.contains(&0)).then_some(sides)
}

/// Kinds of down and up blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// `DownBlock2D`, `UpBlock2D`.
    Plain,
    /// `CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`.
    CrossAttention,
}

/// Kinds of middle blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MidBlock {
    /// `null`.
    None,
    /// `UNetMidBlock2D`: one residual block.
    Plain,
    /// `UNetMidBlock2DCrossAttn`.
    CrossAttention,
}

/// Width of SDXL's additional conditioning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTime {
    /// Sinusoidal features of each of the `time_ids`.
    pub time_features: u64,
    /// Width of `text_embeds` and the embedded `time_ids` together.
    pub total: u64,
}

impl TextTime {
    /// Width of `text_embeds` beside `time_ids` numbers.
    ///
    /// # Errors
    /// The numbers' features alone fill the width, or more.
    pub fn pooled(self, time_ids: u64) -> Result<u64> {
        self.total
            .checked_sub(time_ids * self.time_features)
            .filter(|&n| n > 0)
            .ok_or_else(|| Error::Inconsistent {
                network: UnetConfig::NETWORK,
                key: "projection_class_embeddings_input_dim",
                problem: format!(
                    "{} leaves nothing beside {time_ids} time ids of addition_time_embed_dim {}",
                    self.total, self.time_features
                ),
            })
    }
}

impl Config for UnetConfig {
    const NETWORK: &'static str = "UNet2DConditionModel";

    const FIXED: &'static [(&'static str, &'static [&'static str])] = &[
        ("act_fn", &["\"silu\"", "\"swish\""]),
        ("attention_type", &["\"default\""]),
        ("class_embed_type", &["null"]),
        ("class_embeddings_concat", &["false"]),
        ("cross_attention_norm", &["null"]),
        ("dual_cross_attention", &["false"]),
        ("encoder_hid_dim", &["null"]),
        ("encoder_hid_dim_type", &["null"]),
        ("mid_block_only_cross_attention", &["null", "false"]),
        ("num_attention_heads", &["null"]),
        ("num_class_embeds", &["null"]),
        ("only_cross_attention", &["false"]),
        ("resnet_out_scale_factor", &["1"]),
        ("resnet_skip_time_act", &["false"]),
        ("resnet_time_scale_shift", &["\"default\""]),
        ("reverse_transformer_layers_per_block", &["null"]),
        ("time_cond_proj_dim", &["null"]),
        ("time_embedding_act_fn", &["null"]),
        ("time_embedding_type", &["\"positional\""]),
        ("timestep_post_act", &["null"]),
    ];

    fn check(&self) -> Result<()> {
        let blocks = self.block_out_channels.len();
        Self::require(blocks > 0, "block_out_channels", || "it is empty".into())?;
        let lists = [
            ("down_block_types", self.down_block_types.len() == blocks),
            ("up_block_types", self.up_block_types.len() == blocks),
            ("layers_per_block", self.layers_per_block.covers(blocks)),
            (
                "cross_attention_dim",
                self.cross_attention_dim.covers(blocks),
            ),
            (
                "transformer_layers_per_block",
                self.transformer_layers_per_block.covers(blocks),
            ),
            ("attention_head_dim", self.attention_head_dim.covers(blocks)),
        ];
        for (key, covers) in lists {
            Self::require(covers, key, || {
                format!("block_out_channels has {blocks} entries")
            })?;
        }
        for kind in &self.down_block_types {
            Self::block(
                "down_block_types",
                kind,
                "DownBlock2D",
                "CrossAttnDownBlock2D",
            )?;
        }
        for kind in &self.up_block_types {
            Self::block("up_block_types", kind, "UpBlock2D", "CrossAttnUpBlock2D")?;
        }
        self.mid_block()?;
        self.text_time()?;
        self.check_divisors()
    }
}

impl UnetConfig {
    /// Heads and groups that must divide the channels they split.
    fn check_divisors(&self) -> Result<()> {
        for (index, &channels) in self.block_out_channels.iter().enumerate() {
            let heads = self.attention_head_dim.at(index);
            Self::require(
                heads > 0 && channels.is_multiple_of(heads),
                "attention_head_dim",
                || format!("{heads} heads don't divide {channels} channels"),
            )?;
            let groups = self.norm_num_groups;
            Self::require(
                groups > 0 && channels.is_multiple_of(groups),
                "norm_num_groups",
                || format!("{groups} groups don't divide {channels} channels"),
            )?;
        }
        Ok(())
    }

    fn block(key: &str, kind: &str, plain: &str, attending: &str) -> Result<Block> {
        match kind {
            kind if kind == plain => Ok(Block::Plain),
            kind if kind == attending => Ok(Block::CrossAttention),
            other => Err(Self::unsupported(
                key,
                format!("{other:?}"),
                &format!("{plain}, {attending}"),
            )),
        }
    }

    /// Kind of the down block `index`.
    pub(super) fn down_block(&self, index: usize) -> Result<Block> {
        let kind = &self.down_block_types[index];
        Self::block(
            "down_block_types",
            kind,
            "DownBlock2D",
            "CrossAttnDownBlock2D",
        )
    }

    /// Kind of the up block `index`, innermost first.
    pub(super) fn up_block(&self, index: usize) -> Result<Block> {
        let kind = &self.up_block_types[index];
        Self::block("up_block_types", kind, "UpBlock2D", "CrossAttnUpBlock2D")
    }

    pub(super) fn mid_block(&self) -> Result<MidBlock> {
        match self.mid_block_type.as_deref() {
            None => Ok(MidBlock::None),
            Some("UNetMidBlock2D") => Ok(MidBlock::Plain),
            Some("UNetMidBlock2DCrossAttn") => Ok(MidBlock::CrossAttention),
            Some(other) => Err(Self::unsupported(
                "mid_block_type",
                format!("{other:?}"),
                "UNetMidBlock2DCrossAttn, UNetMidBlock2D, null",
            )),
        }
    }

    /// SDXL's additional conditioning; `None` for the SD 1.5 kind.
    ///
    /// # Errors
    /// Another `addition_embed_type`, or one of the widths missing.
    pub fn text_time(&self) -> Result<Option<TextTime>> {
        match self.addition_embed_type.as_deref() {
            None => return Ok(None),
            Some(TEXT_TIME) => {}
            Some(other) => {
                let value = format!("{other:?}");
                return Err(Self::unsupported(
                    "addition_embed_type",
                    value,
                    "text_time, null",
                ));
            }
        }
        let needed = |width: Option<u64>, key: &'static str| {
            width.ok_or_else(|| Error::Inconsistent {
                network: Self::NETWORK,
                key,
                problem: "addition_embed_type text_time needs it".into(),
            })
        };
        let time_features = needed(self.addition_time_embed_dim, "addition_time_embed_dim")?;
        let total = needed(
            self.projection_class_embeddings_input_dim,
            "projection_class_embeddings_input_dim",
        )?;
        Ok(Some(TextTime {
            time_features,
            total,
        }))
    }

    /// Width of `encoder_hidden_states`.
    ///
    /// # Errors
    /// Blocks that want text embeddings of different widths, which no pipeline provides.
    pub fn text_width(&self) -> Result<u64> {
        let width = self.cross_attention_dim.at(0);
        let same =
            (0..self.block_out_channels.len()).all(|i| self.cross_attention_dim.at(i) == width);
        Self::require(same, "cross_attention_dim", || {
            "the blocks' widths differ".into()
        })?;
        Ok(width)
    }

    /// Width of the time embedding.
    pub fn time_embed_dim(&self) -> u64 {
        self.time_embedding_dim
            .unwrap_or(4 * self.block_out_channels[0])
    }

    /// What latent height and width must be multiples of: every down block but the last halves.
    pub fn size_multiple(&self) -> u64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn one() -> u64 {
    1
}

fn three() -> u64 {
    3
}

fn four() -> u64 {
    4
}

fn groups() -> u64 {
    32
}

fn unit() -> f32 {
    1.0
}

fn epsilon() -> f32 {
    1e-5
}

fn two() -> PerBlock<u64> {
    PerBlock::One(2)
}

fn one_each() -> PerBlock<u64> {
    PerBlock::One(1)
}

fn attention_head_dim() -> PerBlock<u64> {
    PerBlock::One(8)
}

fn cross_attention_dim() -> PerBlock<u64> {
    PerBlock::One(1280)
}

fn block_out_channels() -> Vec<u64> {
    vec![320, 640, 1280, 1280]
}

fn down_block_types() -> Vec<String> {
    let cross = "CrossAttnDownBlock2D";
    [cross, cross, cross, "DownBlock2D"]
        .map(String::from)
        .to_vec()
}

fn up_block_types() -> Vec<String> {
    let cross = "CrossAttnUpBlock2D";
    ["UpBlock2D", cross, cross, cross]
        .map(String::from)
        .to_vec()
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a serde default has the field's type"
)]
fn mid_block_type() -> Option<String> {
    Some("UNetMidBlock2DCrossAttn".into())
}
