//! Module paths and how kohya spells them.

/// Blocks of the UNet hold this many resnets (down side); the block numbers of the original
/// Stable Diffusion code count them. Both SD 1.5 and SDXL have two.
const LAYERS_PER_BLOCK: usize = 2;

/// The end of a path that says what kind of layer it is: `to_out.0` rather than `0`.
pub(super) fn kind(path: &str) -> &str {
    let last = path.rfind('.').map_or(0, |i| i + 1);
    if path[last..].bytes().all(|b| b.is_ascii_digit()) && last > 0 {
        path[..last - 1].rfind('.').map_or(path, |i| &path[i + 1..])
    } else {
        &path[last..]
    }
}

/// The module path of a kohya name without `lora_unet_`, in diffusers' or the original code's
/// block names; nothing for what is no linear layer of a transformer block.
pub(super) fn from_kohya(name: &str) -> Option<String> {
    let (place, rest) = place_from_kohya(name)?;
    let rest = match rest {
        "proj_in" | "proj_out" => rest.to_owned(),
        _ => {
            let rest = rest.strip_prefix("transformer_blocks_")?;
            let (index, rest) = number(rest)?;
            let layer = match rest {
                "ff_net_0_proj" => "ff.net.0.proj".to_owned(),
                "ff_net_2" => "ff.net.2".to_owned(),
                _ => {
                    let (attention, projection) = rest.split_at_checked(6)?;
                    let projection = match projection {
                        "to_q" | "to_k" | "to_v" => projection,
                        "to_out_0" => "to_out.0",
                        _ => return None,
                    };
                    match attention {
                        "attn1_" => format!("attn1.{projection}"),
                        "attn2_" => format!("attn2.{projection}"),
                        _ => return None,
                    }
                }
            };
            format!("transformer_blocks.{index}.{layer}")
        }
    };
    Some(format!("{place}.{rest}"))
}

/// The module path of a kohya name of a text encoder, without `lora_te1_`.
pub(super) fn text_from_kohya(name: &str) -> Option<String> {
    if name == "text_projection" {
        return Some(name.to_owned());
    }
    let (layer, rest) = number(name.strip_prefix("text_model_encoder_layers_")?)?;
    let module = match rest {
        "mlp_fc1" => "mlp.fc1",
        "mlp_fc2" => "mlp.fc2",
        "self_attn_q_proj" => "self_attn.q_proj",
        "self_attn_k_proj" => "self_attn.k_proj",
        "self_attn_v_proj" => "self_attn.v_proj",
        "self_attn_out_proj" => "self_attn.out_proj",
        _ => return None,
    };
    Some(format!("text_model.encoder.layers.{layer}.{module}"))
}

/// Whether a kohya name, or another with its dots replaced, is that of a layer outside the transformers: a convolution, or the residual
/// blocks' projection of time.
pub(super) fn is_residual(name: &str) -> bool {
    let parts = [
        "resnets_",
        "in_layers_",
        "out_layers_",
        "emb_layers_",
        "skip_connection",
        "samplers_",
        "conv_in",
        "conv_out",
        "_0_op",
        "time_embed",
        "label_emb",
        "add_embedding",
    ];
    parts.iter().any(|part| name.contains(part))
}

/// Whether a dotted name has the original code's block names.
pub(super) fn is_original(module: &str) -> bool {
    let blocks = ["input_blocks.", "middle_block.", "output_blocks."];
    blocks.iter().any(|block| module.starts_with(block))
}

/// Whether a dotted name begins as diffusers' names of a UNet's modules do.
pub(super) fn is_unet(module: &str) -> bool {
    let roots = [
        "down_blocks.",
        "mid_block.",
        "up_blocks.",
        "time_embedding.",
        "add_embedding.",
        "class_embedding.",
        "conv_in",
        "conv_out",
    ];
    roots.iter().any(|root| module.starts_with(root))
}

/// Whether a dotted name is one of a CLIP text encoder's modules.
pub(super) fn is_text(module: &str) -> bool {
    let plain = module.strip_prefix("text_model.").unwrap_or(module);
    plain.starts_with("encoder.layers.") || plain == "text_projection"
}

/// Splits off the place of the transformer: `down_blocks.1.attentions.0`.
fn place_from_kohya(name: &str) -> Option<(String, &str)> {
    let after = |prefix: &str| number(name.strip_prefix(prefix)?);
    for (prefix, side) in [("down_blocks_", "down_blocks"), ("up_blocks_", "up_blocks")] {
        if let Some((block, rest)) = after(prefix) {
            let (layer, rest) = number(rest.strip_prefix("attentions_")?)?;
            return Some((format!("{side}.{block}.attentions.{layer}"), rest));
        }
    }
    for prefix in ["mid_block_attentions_0_", "middle_block_1_"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(("mid_block.attentions.0".to_owned(), rest));
        }
    }
    let per_block = LAYERS_PER_BLOCK + 1;
    if let Some((n, rest)) = after("input_blocks_") {
        let n = n.checked_sub(1)?;
        let rest = rest.strip_prefix("1_")?;
        let place = format!("down_blocks.{}.attentions.{}", n / per_block, n % per_block);
        return Some((place, rest));
    }
    let (n, rest) = after("output_blocks_")?;
    let rest = rest.strip_prefix("1_")?;
    let place = format!("up_blocks.{}.attentions.{}", n / per_block, n % per_block);
    Some((place, rest))
}

/// A leading number and what follows its underscore.
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('_')?;
    Some((digits.parse().ok()?, rest))
}

/// The kohya name of a module path in diffusers' block names, as kohya writes SD 1.5.
pub(super) fn to_kohya(path: &str) -> String {
    format!("lora_unet_{}", path.replace('.', "_"))
}

/// The kohya name of a module path in the original code's block names, as kohya writes SDXL.
pub(super) fn to_kohya_sgm(path: &str) -> String {
    let parts: Vec<&str> = path.splitn(5, '.').collect();
    let per_block = LAYERS_PER_BLOCK + 1;
    let number = |text: &str| text.parse::<usize>().ok();
    let name = match parts.as_slice() {
        [
            side @ ("down_blocks" | "up_blocks"),
            block,
            "attentions",
            layer,
            rest,
        ] => number(block).zip(number(layer)).and_then(|(block, layer)| {
            // A hostile file's numbers may be as large as numbers get.
            let n = block.checked_mul(per_block)?.checked_add(layer)?;
            match *side {
                "down_blocks" => Some(format!("input_blocks_{}_1_{rest}", n.checked_add(1)?)),
                _ => Some(format!("output_blocks_{n}_1_{rest}")),
            }
        }),
        ["mid_block", "attentions", "0", ..] => path
            .strip_prefix("mid_block.attentions.0.")
            .map(|rest| format!("middle_block_1_{rest}")),
        _ => None,
    };
    to_kohya(&name.unwrap_or_else(|| path.to_owned()))
}

/// The kinds of modules by the end of their paths, as PEFT's `target_modules`: `to_k`, `to_out.0`.
pub fn targets<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut kinds: Vec<String> = paths
        .into_iter()
        .map(|path| kind(path).to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}
