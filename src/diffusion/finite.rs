//! Numbers that are none: what to do about them depends on which graph gave them, and in which type.

use crate::bundle::Part;

/// An output of a graph that holds NaN or infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonFinite {
    /// The graph.
    pub part: Part,
    /// The output, or what was made of it.
    pub output: &'static str,
    /// Whether the graph computes in fp16, which overflows at 65504.
    pub fp16: bool,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { part, output, fp16 } = self;
        let dtype = if *fp16 { ", computed in fp16," } else { "" };
        write!(f, "`{output}` of {part}{dtype} is NaN or infinity")
    }
}

impl NonFinite {
    /// Advice for the person at the keyboard.
    pub fn hint(&self) -> &'static str {
        match (self.part, self.fp16) {
            (Part::VaeDecoder | Part::VaeEncoder, true) => {
                "this VAE overflows fp16: export with --dtype bf16 or fp32, set force_upcast in its \
                 config.json, or take one made for fp16 (madebyollin/sdxl-vae-fp16-fix)"
            }
            (_, true) => {
                "fp16 overflows at 65504: export with --dtype bf16 or fp32; a LoRA that was trained \
                 too hard does this too, or a --lora-scale or --cfg too high"
            }
            (Part::Unet, false) => {
                "a LoRA that was trained too hard does this, or a --lora-scale or --cfg too high"
            }
            (_, false) => {
                "look at the weights: pa-export --verify BUNDLE tells whether they changed"
            }
        }
    }
}
