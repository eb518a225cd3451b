//! The names of open_clip's text tower (`open_clip/transformer.py`), SDXL's second text encoder.

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

/// The tensors that transformers has for one of open_clip's; nothing for what it has not.
pub(super) fn transformers(name: &str, tensor: &Tensor) -> Option<Vec<Tensor>> {
    let one = |to: String| Some(vec![tensor.renamed(to)]);
    match name {
        // A bare parameter [in, out]: it keeps its name, which tells it from a linear layer's.
        "text_projection" => return one("text_projection".into()),
        "positional_embedding" => {
            return one("text_model.embeddings.position_embedding.weight".into());
        }
        "token_embedding.weight" => {
            return one("text_model.embeddings.token_embedding.weight".into());
        }
        _ => {}
    }
    if let Some(kind) = name.strip_prefix("ln_final.") {
        return one(format!("text_model.final_layer_norm.{kind}"));
    }
    let (layer, rest) = name
        .strip_prefix("transformer.resblocks.")
        .and_then(number)?;
    let place = format!("text_model.encoder.layers.{layer}");
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
