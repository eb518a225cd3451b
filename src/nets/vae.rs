//! `AutoencoderKL` (diffusers `models/autoencoders/autoencoder_kl.py` and `vae.py`): pictures to
//! latents and back.

use serde::{Deserialize, Serialize};

use super::attention::attention;
use super::config::{Config, yes};
use super::resblock::{Residual, halving, residual};
use super::{Params, Result};
use crate::graph::{Conv, DType, Graph, Value};

/// Not configurable in diffusers.
const EPSILON: f32 = 1e-6;

/// What of `AutoencoderKL`'s configuration matters, with diffusers' defaults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are diffusers' own")]
pub struct VaeConfig {
    pub in_channels: u64,
    pub out_channels: u64,
    pub down_block_types: Vec<String>,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<u64>,
    pub layers_per_block: u64,
    pub latent_channels: u64,
    pub norm_num_groups: u64,
    /// Latents are multiplied by this before the UNet sees them; the graphs here don't do it.
    pub scaling_factor: f32,
    /// Whether fp16 can't hold its activations, as the stock SDXL's; diffusers then decodes in
    /// fp32, and so do fp16 exports. bf16 has the range.
    #[serde(default = "yes")]
    pub force_upcast: bool,
    #[serde(default = "yes")]
    pub use_quant_conv: bool,
    #[serde(default = "yes")]
    pub use_post_quant_conv: bool,
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".into()],
            up_block_types: vec!["UpDecoderBlock2D".into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl Config for VaeConfig {
    const NETWORK: &'static str = "AutoencoderKL";

    const FIXED: &'static [(&'static str, &'static [&'static str])] =
        &[("act_fn", &["\"silu\"", "\"swish\""])];

    fn check(&self) -> Result<()> {
        let blocks = self.block_out_channels.len();
        Self::require(blocks > 0, "block_out_channels", || "it is empty".into())?;
        let kinds = [
            (
                "down_block_types",
                &self.down_block_types,
                "DownEncoderBlock2D",
            ),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ];
        for (key, types, supported) in kinds {
            Self::require(types.len() == blocks, key, || {
                format!("block_out_channels has {blocks} entries")
            })?;
            if let Some(other) = types.iter().find(|kind| *kind != supported) {
                return Err(Self::unsupported(key, format!("{other:?}"), supported));
            }
        }
        let groups = self.norm_num_groups;
        for &channels in &self.block_out_channels {
            Self::require(
                groups > 0 && channels.is_multiple_of(groups),
                "norm_num_groups",
                || format!("{groups} groups don't divide {channels} channels"),
            )?;
        }
        Ok(())
    }
}

impl VaeConfig {
    /// The type to compute in where `asked` is the pipeline's.
    pub fn compute(&self, asked: DType) -> DType {
        match asked {
            DType::F16 if self.force_upcast => DType::F32,
            asked => asked,
        }
    }

    /// How many times smaller the latent is than the picture, on each axis.
    pub fn factor(&self) -> u64 {
        1 << (self.block_out_channels.len() - 1)
    }

    fn innermost(&self) -> u64 {
        self.block_out_channels[self.block_out_channels.len() - 1]
    }

    fn residual(&self, inp: u64, out: u64) -> Residual {
        let groups = self.norm_num_groups;
        Residual {
            inp,
            out,
            groups,
            epsilon: EPSILON,
            output_scale: 1.0,
        }
    }
}

/// Picture [B, in_channels, H, W] in −1…1, H and W multiples of [`VaeConfig::factor`], to the
/// latent's mean and log variance [B, 2·latent_channels, H/f, W/f].
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says.
pub fn encode(g: &mut Graph, config: &VaeConfig, w: &Params, picture: Value) -> Result<Value> {
    let channels = &config.block_out_channels;
    let moments = 2 * config.latent_channels;
    let encoded = w.within(g, "encoder", |g, w| {
        let mut x = w.within(g, "conv_in", |g, w| {
            w.same_conv(g, picture, (config.in_channels, channels[0]), 3)
        })?;
        let mut inp = channels[0];
        for (block, &out) in channels.iter().enumerate() {
            x = w.within(g, format_args!("down_blocks.{block}"), |g, w| {
                let x = resnets(g, config, w, config.layers_per_block, x, (inp, out))?;
                if block + 1 == channels.len() {
                    return Ok(x);
                }
                w.within(g, "downsamplers.0.conv", |g, w| {
                    w.conv(g, x, (out, out), 3, halving(0), true)
                })
            })?;
            inp = out;
        }
        let x = w.within(g, "mid_block", |g, w| middle(g, config, w, x))?;
        finish(g, config, w, x, config.innermost(), moments)
    })?;
    if config.use_quant_conv {
        pointwise(g, w, "quant_conv", encoded, moments)
    } else {
        Ok(encoded)
    }
}

/// Latent [B, latent_channels, h, w], divided by the scaling factor, to the picture
/// [B, out_channels, f·h, f·w] in about −1…1.
///
/// # Errors
/// Weights that are missing or of another shape than the configuration says.
pub fn decode(g: &mut Graph, config: &VaeConfig, w: &Params, latent: Value) -> Result<Value> {
    let channels = &config.block_out_channels;
    let mut x = latent;
    if config.use_post_quant_conv {
        x = pointwise(g, w, "post_quant_conv", x, config.latent_channels)?;
    }
    w.within(g, "decoder", |g, w| {
        let mut inp = config.innermost();
        let mut x = w.within(g, "conv_in", |g, w| {
            w.same_conv(g, x, (config.latent_channels, inp), 3)
        })?;
        x = w.within(g, "mid_block", |g, w| middle(g, config, w, x))?;
        for (index, &out) in channels.iter().rev().enumerate() {
            x = w.within(g, format_args!("up_blocks.{index}"), |g, w| {
                let x = resnets(g, config, w, config.layers_per_block + 1, x, (inp, out))?;
                if index + 1 == channels.len() {
                    return Ok(x);
                }
                w.within(g, "upsamplers.0.conv", |g, w| {
                    let doubled = g.upsample_nearest_2x(x)?;
                    w.same_conv(g, doubled, (out, out), 3)
                })
            })?;
            inp = out;
        }
        finish(g, config, w, x, channels[0], config.out_channels)
    })
}

fn pointwise(g: &mut Graph, w: &Params, name: &str, x: Value, channels: u64) -> Result<Value> {
    w.within(g, name, |g, w| {
        w.conv(g, x, (channels, channels), 1, Conv::new(1, 0), true)
    })
}

/// The residual blocks of one resolution.
fn resnets(
    g: &mut Graph,
    config: &VaeConfig,
    w: &Params,
    count: u64,
    mut x: Value,
    (mut inp, out): (u64, u64),
) -> Result<Value> {
    for layer in 0..count {
        x = w.within(g, format_args!("resnets.{layer}"), |g, w| {
            residual(g, w, &config.residual(inp, out), x, None)
        })?;
        inp = out;
    }
    Ok(x)
}

/// `UNetMidBlock2D`.
fn middle(g: &mut Graph, config: &VaeConfig, w: &Params, x: Value) -> Result<Value> {
    let c = config.innermost();
    let sizes = config.residual(c, c);
    let mut x = w.within(g, "resnets.0", |g, w| residual(g, w, &sizes, x, None))?;
    if config.mid_block_add_attention {
        x = w.within(g, "attentions.0", |g, w| attend(g, config, w, x))?;
    }
    w.within(g, "resnets.1", |g, w| residual(g, w, &sizes, x, None))
}

/// `Attention` as the deprecated `AttentionBlock`: one head over all positions, with a residual.
/// Checkpoints of before diffusers 0.17 name the projections otherwise.
fn attend(g: &mut Graph, config: &VaeConfig, w: &Params, x: Value) -> Result<Value> {
    let c = config.innermost();
    let picture = g.shape(x).to_vec();
    let flat = [picture[0].clone(), c.into(), picture[2].times(&picture[3])];
    let columns = g.reshape(x, &flat)?;
    let normal = w.within(g, "group_norm", |g, w| {
        w.group_norm(g, columns, c, config.norm_num_groups, EPSILON)
    })?;
    let rows = g.transpose(normal, &[0, 2, 1])?;
    let names = if w.scope().contains_scope("query") {
        ["query", "key", "value", "proj_attn"]
    } else {
        ["to_q", "to_k", "to_v", "to_out.0"]
    };
    let project =
        |g: &mut Graph, name: &str, x: Value| w.within(g, name, |g, w| w.linear(g, x, c, c, true));
    let qkv = [
        project(g, names[0], rows)?,
        project(g, names[1], rows)?,
        project(g, names[2], rows)?,
    ];
    let mixed = attention(g, qkv, 1, None, w.score_limit())?;
    let projected = project(g, names[3], mixed)?;
    let columns = g.transpose(projected, &[0, 2, 1])?;
    let back = g.reshape(columns, &picture)?;
    Ok(g.add(back, x)?)
}

/// Normalisation, activation and the last convolution.
fn finish(
    g: &mut Graph,
    config: &VaeConfig,
    w: &Params,
    x: Value,
    inp: u64,
    out: u64,
) -> Result<Value> {
    let normal = w.within(g, "conv_norm_out", |g, w| {
        w.group_norm(g, x, inp, config.norm_num_groups, EPSILON)
    })?;
    let active = g.silu(normal)?;
    w.within(g, "conv_out", |g, w| w.same_conv(g, active, (inp, out), 3))
}
