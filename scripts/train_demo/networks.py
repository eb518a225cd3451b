"""The conditional denoiser of the demo model: two CLIP text encoders and a UNet in SDXL's layout."""

import tokenizer

TEXT_WIDTH = 64
TIME_IDS = (64, 64, 0, 0, 64, 64)  # original size, crop, target size
ADDITION_TIME_EMBED_DIM = 16
CHANNELS = (64, 96, 128)
HEAD_WIDTH = 32

SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}


def _text_config():
    from transformers import CLIPTextConfig

    bos, eos = tokenizer.special_ids()
    return CLIPTextConfig(
        vocab_size=tokenizer.vocabulary_size(),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=TEXT_WIDTH // HEAD_WIDTH,
        projection_dim=TEXT_WIDTH,
        max_position_embeddings=tokenizer.MAX_LENGTH,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )


def build_text_encoders():
    """(CLIPTextModel, CLIPTextModelWithProjection), untrained."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    return CLIPTextModel(_text_config()), CLIPTextModelWithProjection(_text_config())


def build_unet():
    """An untrained UNet2DConditionModel with SDXL's block types and added conditioning."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=tuple(width // HEAD_WIDTH for width in CHANNELS),
        cross_attention_dim=2 * TEXT_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=ADDITION_TIME_EMBED_DIM,
        projection_class_embeddings_input_dim=len(TIME_IDS) * ADDITION_TIME_EMBED_DIM + TEXT_WIDTH,
    )


def encode_text(encoders, ids, ids_2):
    """Token embeddings [B, 77, 128] and pooled embeddings [B, 64], taken as SDXL takes them."""
    import torch

    first = encoders[0](ids, output_hidden_states=True)
    second = encoders[1](ids_2, output_hidden_states=True)
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    return hidden, second.text_embeds
