//! The names of graphs' inputs and outputs, and of their symbolic dimensions.
//!
//! They are optimum-onnx's (`exporters/onnx/model_configs.py`), so that its pipelines open what is
//! written; the training graph's are our own.

/// Symbolic dimensions.
pub mod axes {
    /// Samples at once.
    pub const BATCH: &str = "batch_size";
    /// Height of latents or pictures.
    pub const HEIGHT: &str = "height";
    /// Width of latents or pictures.
    pub const WIDTH: &str = "width";
    /// Tokens of a caption.
    pub const SEQUENCE: &str = "sequence_length";
}

/// The UNet.
pub mod unet {
    /// Input: noisy latents [B, C, h, w].
    pub const SAMPLE: &str = "sample";
    /// Input: the time step, [] or `[B]`.
    pub const TIMESTEP: &str = "timestep";
    /// Input: the tokens' embeddings [B, tokens, width].
    pub const ENCODER_HIDDEN_STATES: &str = "encoder_hidden_states";
    /// Input, with added conditioning: the pooled embedding [B, length].
    pub const TEXT_EMBEDS: &str = "text_embeds";
    /// Input, with added conditioning: the size conditions [B, n].
    pub const TIME_IDS: &str = "time_ids";
    /// Input: what the LoRA's change is multiplied by, [].
    pub const LORA_SCALE: &str = "lora_scale";
    /// Output: the prediction [B, C, h, w].
    pub const OUT_SAMPLE: &str = "out_sample";
}

/// The training graph, which takes the UNet's inputs too.
pub mod training {
    /// Input: what the UNet is to predict, [B, C, h, w].
    pub const TARGET: &str = "target";
    /// Output: each sample's mean squared error with the LoRA, `[B]`.
    pub const MSE: &str = "mse";
    /// Output: the same without, `[B]`.
    pub const REF_MSE: &str = "ref_mse";
    /// What the outputs of factors' gradients begin with; the factor's input follows.
    pub const GRAD: &str = "grad.";

    /// The output with the gradient of a factor.
    pub fn grad(factor: &str) -> String {
        format!("{GRAD}{factor}")
    }
}

/// Text encoders and CLIP's text tower.
pub mod text {
    /// Input: token ids [B, tokens].
    pub const INPUT_IDS: &str = "input_ids";
    /// Output: the last hidden state [B, tokens, width].
    pub const LAST_HIDDEN_STATE: &str = "last_hidden_state";
    /// Output: the last hidden state at the caption's end [B, width].
    pub const POOLER_OUTPUT: &str = "pooler_output";
    /// Output: the projected pooled embedding [B, length].
    pub const TEXT_EMBEDS: &str = "text_embeds";
    /// What the outputs of hidden states begin with; their number follows, from 0.
    pub const HIDDEN_STATES: &str = "hidden_states.";

    /// The output of a hidden state.
    pub fn hidden_state(index: usize) -> String {
        format!("{HIDDEN_STATES}{index}")
    }
}

/// Networks that look at pictures: CLIP's vision tower and classifiers.
pub mod vision {
    /// Input: normalized pictures [B, 3, height, width].
    pub const PIXEL_VALUES: &str = "pixel_values";
    /// Output: the projected embedding [B, length].
    pub const IMAGE_EMBEDS: &str = "image_embeds";
}

/// Both halves of a VAE.
pub mod vae {
    /// The encoder's input and the decoder's output: pictures [B, 3, H, W] in −1…1.
    pub const SAMPLE: &str = "sample";
    /// The encoder's output: mean and log variance [B, 2·C, h, w].
    pub const LATENT_PARAMETERS: &str = "latent_parameters";
    /// The decoder's input: unscaled latents [B, C, h, w].
    pub const LATENT_SAMPLE: &str = "latent_sample";
}
