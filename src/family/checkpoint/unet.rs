//! The UNet's names (sgm `openaimodel.py`): one list of numbered blocks down, one up.

use std::collections::BTreeMap;

use super::numbered::number;

/// Modules outside the blocks.
const TOP: [(&str, &str); 7] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// Modules of a residual block.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// What a numbered block is in diffusers: a layer of a resolution, or the halving after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Layer { block: usize, layer: usize },
    Halving { block: usize },
}

/// How the numbered blocks of one checkpoint divide into resolutions.
#[derive(Debug)]
pub(super) struct Names {
    input: BTreeMap<usize, Place>,
    output: BTreeMap<usize, Place>,
}

impl Names {
    /// Reads the division off the names (without `model.diffusion_model.`).
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut inputs: BTreeMap<usize, bool> = BTreeMap::new();
        let mut outputs: BTreeMap<usize, bool> = BTreeMap::new();
        for name in names {
            if let Some((n, rest)) = name.strip_prefix("input_blocks.").and_then(number) {
                *inputs.entry(n).or_default() |= rest.starts_with("0.op.");
            } else if let Some((n, rest)) = name.strip_prefix("output_blocks.").and_then(number) {
                let doubling = number(rest).is_some_and(|(_, inner)| inner.starts_with("conv."));
                *outputs.entry(n).or_default() |= doubling;
            }
        }
        let (mut input, mut output) = (BTreeMap::new(), BTreeMap::new());
        let (mut block, mut layer) = (0, 0);
        for (&n, &halves) in inputs.range(1..) {
            if halves {
                input.insert(n, Place::Halving { block });
                (block, layer) = (block + 1, 0);
            } else {
                input.insert(n, Place::Layer { block, layer });
                layer += 1;
            }
        }
        (block, layer) = (0, 0);
        for (&n, &doubles) in &outputs {
            output.insert(n, Place::Layer { block, layer });
            (block, layer) = if doubles {
                (block + 1, 0)
            } else {
                (block, layer + 1)
            };
        }
        Self { input, output }
    }

    /// diffusers' name of a tensor; nothing for what no UNet of these families has.
    pub(super) fn diffusers(&self, name: &str) -> Option<String> {
        if let Some((module, rest)) = renamed(name, &TOP) {
            return Some(format!("{module}{rest}"));
        }
        if let Some((part, rest)) = name.strip_prefix("middle_block.").and_then(number) {
            return match part {
                0 => resnet("mid_block", 0, rest),
                1 => Some(format!("mid_block.attentions.0.{rest}")),
                2 => resnet("mid_block", 1, rest),
                _ => None,
            };
        }
        if let Some((n, rest)) = name.strip_prefix("input_blocks.").and_then(number) {
            let (part, rest) = number(rest)?;
            return match (*self.input.get(&n)?, part) {
                (Place::Halving { block }, 0) => {
                    let kind = rest.strip_prefix("op.")?;
                    Some(format!("down_blocks.{block}.downsamplers.0.conv.{kind}"))
                }
                (Place::Layer { block, layer }, _) => {
                    inside(&format!("down_blocks.{block}"), layer, part, rest)
                }
                _ => None,
            };
        }
        let (n, rest) = name.strip_prefix("output_blocks.").and_then(number)?;
        let (part, rest) = number(rest)?;
        let Place::Layer { block, layer } = *self.output.get(&n)? else {
            return None;
        };
        match rest.strip_prefix("conv.") {
            Some(kind) => Some(format!("up_blocks.{block}.upsamplers.0.conv.{kind}")),
            None => inside(&format!("up_blocks.{block}"), layer, part, rest),
        }
    }
}

/// A tensor of a numbered block: part 0 is the residual block, part 1 the transformer.
fn inside(block: &str, layer: usize, part: usize, rest: &str) -> Option<String> {
    match part {
        0 => resnet(block, layer, rest),
        1 => Some(format!("{block}.attentions.{layer}.{rest}")),
        _ => None,
    }
}

fn resnet(block: &str, layer: usize, name: &str) -> Option<String> {
    let (module, rest) = renamed(name, &RESNET)?;
    Some(format!("{block}.resnets.{layer}.{module}{rest}"))
}

/// The new name of the module that `name` is in, and what follows it with its dot.
fn renamed<'a>(name: &'a str, table: &[(&str, &'static str)]) -> Option<(&'static str, &'a str)> {
    table.iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        rest.starts_with('.').then_some((*to, rest))
    })
}
