//! The VAE's names (sgm `diffusionmodules/model.py`).

use super::numbered::number;

/// Modules of the middle's attention.
const ATTENTION: [(&str, &str); 5] = [
    ("norm.", "group_norm."),
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("proj_out.", "to_out.0."),
];

/// The decoder's resolutions are numbered from the largest there and from the smallest here.
#[derive(Debug)]
pub(super) struct Names {
    ups: usize,
}

impl Names {
    /// Counts the decoder's resolutions (names without `first_stage_model.`).
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let up = |name: &str| Some(number(name.strip_prefix("decoder.up.")?)?.0);
        Self {
            ups: names
                .filter_map(up)
                .max()
                .map_or(0, |n| n.saturating_add(1)),
        }
    }

    /// diffusers' name of a tensor; nothing for what no `AutoencoderKL` has.
    pub(super) fn diffusers(&self, name: &str) -> Option<String> {
        if name.starts_with("quant_conv.") || name.starts_with("post_quant_conv.") {
            return Some(name.to_owned());
        }
        let (side, rest) = name.split_once('.')?;
        if !matches!(side, "encoder" | "decoder") {
            return None;
        }
        let inner = if rest.starts_with("conv_in.") || rest.starts_with("conv_out.") {
            rest.to_owned()
        } else if let Some(kind) = rest.strip_prefix("norm_out.") {
            format!("conv_norm_out.{kind}")
        } else if let Some(rest) = rest.strip_prefix("mid.") {
            middle(rest)?
        } else {
            self.resolution(side, rest)?
        };
        Some(format!("{side}.{inner}"))
    }

    fn resolution(&self, side: &str, name: &str) -> Option<String> {
        let (place, rest) = if side == "encoder" {
            let (n, rest) = name.strip_prefix("down.").and_then(number)?;
            (format!("down_blocks.{n}"), rest)
        } else {
            let (n, rest) = name.strip_prefix("up.").and_then(number)?;
            (
                format!("up_blocks.{}", self.ups.checked_sub(n.checked_add(1)?)?),
                rest,
            )
        };
        if let Some((layer, rest)) = rest.strip_prefix("block.").and_then(number) {
            return Some(format!("{place}.resnets.{layer}.{}", resnet(rest)));
        }
        if let Some(rest) = rest.strip_prefix("downsample.") {
            return Some(format!("{place}.downsamplers.0.{rest}"));
        }
        let rest = rest.strip_prefix("upsample.")?;
        Some(format!("{place}.upsamplers.0.{rest}"))
    }
}

fn middle(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("block_1.") {
        return Some(format!("mid_block.resnets.0.{}", resnet(rest)));
    }
    if let Some(rest) = name.strip_prefix("block_2.") {
        return Some(format!("mid_block.resnets.1.{}", resnet(rest)));
    }
    let rest = name.strip_prefix("attn_1.")?;
    ATTENTION.iter().find_map(|(from, to)| {
        let kind = rest.strip_prefix(from)?;
        Some(format!("mid_block.attentions.0.{to}{kind}"))
    })
}

fn resnet(name: &str) -> String {
    match name.strip_prefix("nin_shortcut.") {
        Some(kind) => format!("conv_shortcut.{kind}"),
        None => name.to_owned(),
    }
}
