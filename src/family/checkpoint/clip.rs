//! The names of open_clip's towers (`open_clip/transformer.py`): SDXL's second text encoder is a text tower
//! of it. OpenAI's own CLIP has the same names.

use super::numbered::number;
use crate::tensors::Tensor;

/// Modules of a layer.
const LAYER: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("attn.out_proj.", "self_attn.out_proj."),
];

/// What open_clip's two towers call what stands outside of their layers: the vision tower's names begin
/// with `visual.`.
const OUTSIDE: [(&str, &str); 10] = [
    // Bare parameters [in, out]: they keep their names, which tells them from a linear layer's.
    ("text_projection", "text_projection"),
    ("visual.proj", "visual_projection"),
    (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    (
        "token_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    (
        "visual.class_embedding",
        "vision_model.embeddings.class_embedding",
    ),
    (
        "visual.positional_embedding",
        "vision_model.embeddings.position_embedding.weight",
    ),
    (
        "visual.conv1.weight",
        "vision_model.embeddings.patch_embedding.weight",
    ),
    ("ln_final.", "text_model.final_layer_norm."),
    // As transformers spells it.
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
];

/// The tensors that transformers' `CLIPModel` has for one of open_clip's (`open_clip/transformer.py`) and
/// OpenAI's; nothing for what it has not.
pub fn transformers(name: &str, tensor: &Tensor) -> Option<Vec<Tensor>> {
    let one = |to: String| Some(vec![tensor.renamed(to)]);
    for (from, to) in OUTSIDE {
        match name.strip_prefix(from) {
            Some("") => return one(to.to_owned()),
            Some(kind) if from.ends_with('.') => return one(format!("{to}{kind}")),
            _ => {}
        }
    }
    let (tower, rest) = match name.strip_prefix("visual.") {
        Some(rest) => ("vision_model", rest),
        None => ("text_model", name),
    };
    let (layer, rest) = rest
        .strip_prefix("transformer.resblocks.")
        .and_then(number)?;
    let place = format!("{tower}.encoder.layers.{layer}");
    match rest {
        "attn.in_proj_weight" => return thirds(tensor, &place, "weight"),
        "attn.in_proj_bias" => return thirds(tensor, &place, "bias"),
        _ => {}
    }
    LAYER.iter().find_map(|(from, to)| {
        let kind = rest.strip_prefix(from)?;
        one(format!("{place}.{to}{kind}"))
    })
}

/// Queries', keys' and values' rows of a stacked projection lie one after the other.
fn thirds(tensor: &Tensor, place: &str, kind: &str) -> Option<Vec<Tensor>> {
    let names = ["q_proj", "k_proj", "v_proj"];
    let parts = names.iter().zip(0..);
    let parts = parts.map(|(name, part)| {
        let rows = tensor.rows(part, 3)?;
        Some(rows.renamed(format!("{place}.self_attn.{name}.{kind}")))
    });
    parts.collect()
}
