//! What the members of a family have in common.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Numbers among SDXL's size conditions.
pub const TIME_IDS: usize = 6;
/// The same of SDXL's refiner, which has an aesthetic score instead of the target size.
pub const REFINER_TIME_IDS: usize = 5;
/// The `addition_embed_type` of a UNet that takes a pooled embedding and size conditions.
pub const TEXT_TIME: &str = "text_time";

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// SDXL base and what was made of it.
    Sdxl,
    /// Stable Diffusion 1.x.
    Sd15,
}

/// What follows from the family alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Tokens of a caption.
    pub tokens: u64,
    /// Pixels per latent, each way, where no VAE says.
    pub latent_factor: u64,
    /// The text encoders whose states, side by side, are the UNet's `encoder_hidden_states`.
    pub encoders: &'static [TextEncoder],
    /// Whether the UNet also takes `text_embeds`, the pooled embedding of the encoder that gives
    /// one, and `time_ids`, the picture's sizes.
    pub added_conditioning: bool,
    /// Whether zeros stand for no negative caption (diffusers' `force_zeros_for_empty_prompt`,
    /// where the model doesn't say); else the empty caption does.
    pub zeros_for_no_caption: bool,
}

/// A text encoder, and what the UNet takes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct TextEncoder {
    /// Which one.
    pub slot: Slot,
    /// Whether a model may do without it.
    pub optional: bool,
    /// The state of it that conditions the UNet.
    pub state: HiddenState,
    /// Whether its `text_embeds` are the UNet's.
    pub pooled: bool,
}

/// A text encoder's place in diffusers' layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `text_encoder`.
    First,
    /// `text_encoder_2`.
    Second,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::First, Slot::Second];

    /// The folder of its tokenizer.
    pub fn tokenizer(self) -> &'static str {
        match self {
            Slot::First => "tokenizer",
            Slot::Second => "tokenizer_2",
        }
    }
}

/// One of a text encoder's hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenState {
    /// The last one, normalized.
    Last,
    /// What the last layer takes in.
    LastButOne,
}

/// The refiner has only the second encoder.
const SDXL: Descriptor = Descriptor {
    tokens: 77,
    latent_factor: 8,
    encoders: &[
        TextEncoder {
            slot: Slot::First,
            optional: true,
            state: HiddenState::LastButOne,
            pooled: false,
        },
        TextEncoder {
            slot: Slot::Second,
            optional: false,
            state: HiddenState::LastButOne,
            pooled: true,
        },
    ],
    added_conditioning: true,
    zeros_for_no_caption: true,
};

const SD15: Descriptor = Descriptor {
    tokens: 77,
    latent_factor: 8,
    encoders: &[TextEncoder {
        slot: Slot::First,
        optional: false,
        state: HiddenState::Last,
        pooled: false,
    }],
    added_conditioning: false,
    zeros_for_no_caption: false,
};

impl Family {
    /// The family of a model, from its UNet's `config.json`. A UNet of no family that is known is
    /// refused where its graph is built.
    pub fn of_unet(config: &Json) -> Self {
        match config.get("addition_embed_type").and_then(Json::as_str) {
            Some(TEXT_TIME) => Family::Sdxl,
            _ => Family::Sd15,
        }
    }

    /// The family of a model without a UNet, from its pipeline's class, if that is known.
    pub fn of_pipeline(class: Option<&str>) -> Self {
        match class {
            Some(class) if class.starts_with("StableDiffusionXL") => Family::Sdxl,
            _ => Family::Sd15,
        }
    }

    /// What follows from it.
    pub fn descriptor(self) -> &'static Descriptor {
        match self {
            Family::Sdxl => &SDXL,
            Family::Sd15 => &SD15,
        }
    }
}

/// What SDXL is told of a picture's sizes, in pixels, each height (or top) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SizeConditions {
    /// The size of what it was cut out of or scaled from.
    pub original: [usize; 2],
    /// Where it was cut out: from the top, from the left.
    pub crop: [usize; 2],
    /// Its own size.
    pub target: [usize; 2],
}

impl SizeConditions {
    /// Those of a whole picture.
    pub fn whole(height: usize, width: usize) -> Self {
        Self {
            original: [height, width],
            crop: [0, 0],
            target: [height, width],
        }
    }

    /// As the UNet takes them (`time_ids`).
    #[expect(clippy::cast_precision_loss, reason = "pixel counts are small")]
    pub fn time_ids(&self) -> [f32; TIME_IDS] {
        let [[a, b], [c, d], [e, f]] = [self.original, self.crop, self.target];
        [a, b, c, d, e, f].map(|pixels| pixels as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Json {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn the_family_is_what_the_unet_says() {
        for (path, family) in [
            ("src/bundle/configs/sdxl/unet/config.json", Family::Sdxl),
            ("src/bundle/configs/sd15/unet/config.json", Family::Sd15),
        ] {
            assert_eq!(Family::of_unet(&read(path)), family, "{path}");
        }
        let none = serde_json::json!({"addition_embed_type": null});
        assert_eq!(Family::of_unet(&none), Family::Sd15);
        let of = Family::of_pipeline;
        assert_eq!(of(Some("StableDiffusionXLImg2ImgPipeline")), Family::Sdxl);
        assert_eq!(of(Some("StableDiffusionPipeline")), Family::Sd15);
        assert_eq!(of(None), Family::Sd15);
    }

    #[test]
    fn descriptors_say_what_the_published_configurations_say() {
        for (family, folder, networks) in [
            (Family::Sdxl, "sdxl", vec!["text_encoder", "text_encoder_2"]),
            (Family::Sd15, "sd15", vec!["text_encoder"]),
        ] {
            let told = family.descriptor();
            assert_eq!(told.encoders.len(), networks.len());
            for network in networks {
                let config = read(&format!(
                    "src/bundle/configs/{folder}/{network}/config.json"
                ));
                assert_eq!(config["max_position_embeddings"], told.tokens, "{network}");
            }
            let vae = read(&format!("src/bundle/configs/{folder}/vae/config.json"));
            let blocks = vae["block_out_channels"].as_array().unwrap().len();
            assert_eq!(told.latent_factor, 1 << (blocks - 1));
            let pooled = told.encoders.iter().filter(|e| e.pooled).count();
            assert_eq!(pooled, usize::from(told.added_conditioning));
        }
    }

    #[test]
    fn sizes_are_told_height_first() {
        let mut sizes = SizeConditions::whole(16, 24);
        assert_eq!(sizes.time_ids(), [16.0, 24.0, 0.0, 0.0, 16.0, 24.0]);
        (sizes.original, sizes.crop) = ([32, 40], [8, 4]);
        assert_eq!(sizes.time_ids(), [32.0, 40.0, 8.0, 4.0, 16.0, 24.0]);
    }
}
