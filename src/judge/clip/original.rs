//! CLIP under OpenAI's and open_clip's names: what its shapes and open_clip's configuration say of it.

use std::path::Path;

use serde::Deserialize;

use super::tower::Original;
use crate::base::json;
use crate::judge::error::{Error, Result};
use crate::nets::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig};
use crate::tensors::Weights;

/// transformers' mark of the rule that the token with the highest number ends a text, which is OpenAI's.
const HIGHEST: i64 = 2;

/// `open_clip_config.json`. What isn't named here changes the network, so it is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenClip {
    model_cfg: ModelConfig,
    #[serde(default)]
    pub(super) preprocess_cfg: Preprocess,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelConfig {
    embed_dim: u64,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: VisionConfig,
    text_cfg: TextConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VisionConfig {
    image_size: u64,
    layers: u64,
    width: u64,
    #[serde(default = "head_width")]
    head_width: u64,
    patch_size: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextConfig {
    context_length: u64,
    vocab_size: u64,
    width: u64,
    heads: u64,
    layers: u64,
}

/// How pictures are prepared.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Preprocess {
    pub(super) mean: Option<[f32; 3]>,
    pub(super) std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
}

fn head_width() -> u64 {
    64
}

impl OpenClip {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, or asks for what isn't built.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let config: Self = json::read(path, "a configuration of open_clip that is supported")?;
        let preprocess = &config.preprocess_cfg;
        let known =
            |value: &Option<String>, known: &str| value.as_deref().is_none_or(|v| v == known);
        if !known(&preprocess.interpolation, "bicubic")
            || !known(&preprocess.resize_mode, "shortest")
        {
            return Err(Error::Published {
                path: path.to_path_buf(),
                problem: "preprocess_cfg: expected interpolation bicubic and resize_mode shortest"
                    .into(),
            });
        }
        Ok(config)
    }

    /// How the file beside it is read.
    pub(super) fn original(&self) -> Original {
        let text = &self.model_cfg.text_cfg;
        Original {
            quick_gelu: self.model_cfg.quick_gelu,
            heads: [
                self.model_cfg.vision_cfg.head_width,
                text.width / text.heads.max(1),
            ],
            whole: false,
        }
    }

    /// Holds what the weights' shapes say to what the file says.
    ///
    /// # Errors
    /// The key that they differ in.
    pub(super) fn check(&self, path: &Path, found: &ClipConfig) -> Result<()> {
        let model = &self.model_cfg;
        let (vision, text) = (found.vision(), found.text());
        for (key, said, found) in [
            ("embed_dim", model.embed_dim, vision.projection_dim),
            (
                "vision_cfg.image_size",
                model.vision_cfg.image_size,
                vision.image_size,
            ),
            (
                "vision_cfg.layers",
                model.vision_cfg.layers,
                vision.num_hidden_layers,
            ),
            (
                "vision_cfg.width",
                model.vision_cfg.width,
                vision.hidden_size,
            ),
            (
                "vision_cfg.patch_size",
                model.vision_cfg.patch_size,
                vision.patch_size,
            ),
            (
                "text_cfg.context_length",
                model.text_cfg.context_length,
                text.max_position_embeddings,
            ),
            (
                "text_cfg.vocab_size",
                model.text_cfg.vocab_size,
                text.vocab_size,
            ),
            ("text_cfg.width", model.text_cfg.width, text.hidden_size),
            (
                "text_cfg.layers",
                model.text_cfg.layers,
                text.num_hidden_layers,
            ),
        ] {
            if said != found {
                return Err(Error::Published {
                    path: path.to_path_buf(),
                    problem: format!("{key} is {said}, but the weights' shapes say {found}"),
                });
            }
        }
        Ok(())
    }
}

/// The configuration of weights (under transformers' names) that come without one, read off their shapes
/// as `clip/model.py` does.
///
/// # Errors
/// A tensor is missing or has another number of axes; positions that are no square of patches; heads that
/// don't divide a width.
pub(super) fn config(weights: &Weights, original: Original) -> Result<ClipConfig> {
    let shapes = Shapes(weights);
    let vision = "vision_model.embeddings";
    let [width, channels, patch, _] = shapes.of(&format!("{vision}.patch_embedding.weight"))?;
    let [positions, _] = shapes.of(&format!("{vision}.position_embedding.weight"))?;
    let grid = positions.saturating_sub(1).isqrt();
    if positions != grid * grid + 1 || grid == 0 {
        return Err(shapes.bad(format!(
            "visual.positional_embedding has {positions} rows, expected one more than a square"
        )));
    }
    let [vocabulary, text_width] = shapes.of("text_model.embeddings.token_embedding.weight")?;
    let [length, _] = shapes.of("text_model.embeddings.position_embedding.weight")?;
    let [_, shared] = shapes.of("text_projection")?;
    let heads = |width: u64, head: u64, tower: &str| match head > 0 && width.is_multiple_of(head) {
        true => Ok(width / head),
        false => Err(shapes.bad(format!(
            "{tower} is {width} wide, expected a multiple of its heads' {head}"
        ))),
    };
    let act = if original.quick_gelu {
        "quick_gelu"
    } else {
        "gelu"
    };
    let text = ClipTextConfig {
        vocab_size: vocabulary,
        hidden_size: text_width,
        intermediate_size: shapes.inner("text_model")?,
        num_hidden_layers: shapes.layers("text_model"),
        num_attention_heads: heads(text_width, original.heads[1], "the text tower")?,
        max_position_embeddings: length,
        hidden_act: act.into(),
        eos_token_id: HIGHEST,
        ..ClipTextConfig::default()
    };
    let vision = ClipVisionConfig {
        hidden_size: width,
        intermediate_size: shapes.inner("vision_model")?,
        num_hidden_layers: shapes.layers("vision_model"),
        num_attention_heads: heads(width, original.heads[0], "the vision tower")?,
        num_channels: channels,
        image_size: grid * patch,
        patch_size: patch,
        hidden_act: act.into(),
        ..ClipVisionConfig::default()
    };
    Ok(ClipConfig::new(text, vision, shared))
}

/// The shapes of some weights.
struct Shapes<'a>(&'a Weights);

impl Shapes<'_> {
    fn bad(&self, problem: String) -> Error {
        let file = self.0.files().first().map(|f| f.to_path_buf());
        Error::Published {
            path: file.unwrap_or_default(),
            problem,
        }
    }

    fn of<const N: usize>(&self, name: &str) -> Result<[u64; N]> {
        let Some(tensor) = self.0.tensor(name) else {
            return Err(self.bad(format!(
                "it has no `{name}`, under that or under open_clip's name: it is no CLIP that is known"
            )));
        };
        let shape = <[u64; N]>::try_from(tensor.shape.as_slice());
        let shape = shape.map_err(|_| {
            let found = &tensor.shape;
            self.bad(format!("`{name}` has shape {found:?}, expected {N} axes"))
        })?;
        match shape.contains(&0) {
            true => Err(self.bad(format!("`{name}` is empty"))),
            false => Ok(shape),
        }
    }

    fn inner(&self, tower: &str) -> Result<u64> {
        let [inner, _] = self.of(&format!("{tower}.encoder.layers.0.mlp.fc1.weight"))?;
        Ok(inner)
    }

    fn layers(&self, tower: &str) -> u64 {
        let place = self.0.scope(tower).pp("encoder.layers");
        (0..)
            .take_while(|n| place.contains_scope(&n.to_string()))
            .count() as u64
    }
}
