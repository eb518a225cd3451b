"""Draws random tiny model configurations of the SDXL and the SD 1.5 kind.

Every switch that the two families use takes more than one value over a handful of draws: channel
counts, head counts (one number or one per block), layers per block (one number or one per block),
transformer layers, linear and convolutional projections, one or two text encoders, which activation
and which end-of-text rule they use, a VAE with and without its 1x1 convolutions.
"""

import random

TOKENS = 12
VOCABULARY = 60


def draw(kind, seed):
    """A configuration of `kind` ("sdxl" or "sd15"): part name -> keyword arguments of its class."""
    rng = random.Random(f"{kind}-{seed}")
    encoders = _text_encoders(kind, rng)
    unet = _unet(kind, rng, encoders)
    return {**encoders, "unet": unet, "vae": _vae(rng, unet["in_channels"])}


def _text_encoders(kind, rng):
    if kind == "sd15":
        return {"text_encoder": _text(rng, projection=False)}
    if rng.random() < 0.25:  # as the SDXL refiner: only the second one
        return {"text_encoder_2": _text(rng, projection=True)}
    return {"text_encoder": _text(rng, projection=False), "text_encoder_2": _text(rng, projection=True)}


def _text(rng, projection):
    heads = rng.choice([1, 2, 3])
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": heads * rng.choice([4, 6]),
        "intermediate_size": rng.choice([16, 20]),
        "num_hidden_layers": rng.choice([2, 3]),
        "num_attention_heads": heads,
        "max_position_embeddings": TOKENS,
        "hidden_act": rng.choice(["quick_gelu", "gelu"]),
        "projection_dim": rng.choice([6, 10]) if projection else 7,
        # 2 asks for the old rule (the highest id), anything else for the first such id.
        "eos_token_id": rng.choice([2, VOCABULARY - 1]),
        "bos_token_id": 0,
        "pad_token_id": 1,
    }


def _unet(kind, rng, encoders):
    groups = rng.choice([2, 4])
    if kind == "sdxl":
        blocks = rng.choice([["Down", "Cross"], ["Down", "Cross", "Cross"]])
    else:
        blocks = rng.choice([["Cross", "Down"], ["Cross", "Cross", "Down"]])
    count = len(blocks)
    widths = sorted(rng.choice([8, 12, 16, 24]) for _ in blocks)
    layers = rng.choice([1, 2, [rng.choice([1, 2]) for _ in blocks]])
    heads = rng.choice([1, 2, 4, [rng.choice([1, 2, 4]) for _ in blocks]])
    config = {
        "sample_size": 8 * 2 ** (count - 1),
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["DownBlock2D" if b == "Down" else "CrossAttnDownBlock2D" for b in blocks],
        "up_block_types": ["UpBlock2D" if b == "Down" else "CrossAttnUpBlock2D" for b in reversed(blocks)],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "attention_head_dim": heads,
        "cross_attention_dim": sum(e["hidden_size"] for e in encoders.values()),
        "norm_num_groups": groups,
        "norm_eps": rng.choice([1e-5, 1e-6]),
        "use_linear_projection": rng.random() < 0.5,
        "flip_sin_to_cos": rng.random() < 0.75,
        "freq_shift": rng.choice([0, 0, 1]),
        "downsample_padding": rng.choice([1, 1, 0]),
        "mid_block_scale_factor": rng.choice([1, 1, 1.5]),
    }
    if kind == "sdxl":
        pooled = encoders["text_encoder_2"]["projection_dim"]
        time_width = rng.choice([4, 8])
        config |= {
            "transformer_layers_per_block": [rng.choice([1, 2]) for _ in blocks],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": time_width,
            "projection_class_embeddings_input_dim": pooled + 6 * time_width,
        }
    else:
        config |= {
            "transformer_layers_per_block": rng.choice([1, 1, 2]),
            "mid_block_type": rng.choice(["UNetMidBlock2DCrossAttn"] * 3 + ["UNetMidBlock2D"]),
        }
    return config


def _vae(rng, latent_channels):
    widths = sorted(rng.choice([4, 8, 12]) for _ in range(rng.choice([2, 3])))
    quantised = rng.random() < 0.6
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": rng.choice([1, 2]),
        "latent_channels": latent_channels,
        "norm_num_groups": rng.choice([2, 4]),
        "sample_size": 16,
        "use_quant_conv": quantised,
        "use_post_quant_conv": quantised,
        "mid_block_add_attention": rng.random() < 0.85,
    }


def clip():
    """A CLIP model with both towers; the vision one has another width, depth and head count."""
    return {
        "text_config": {
            "vocab_size": VOCABULARY,
            "hidden_size": 12,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": TOKENS,
            "hidden_act": "quick_gelu",
            "eos_token_id": VOCABULARY - 1,
            "bos_token_id": 0,
        },
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "image_size": 24,
            "patch_size": 8,
        },
        "projection_dim": 10,
    }


def resnets():
    """ResNet classifiers of both layer types; `heads` is PopAlign's own key (see src/nets/resnet.rs)."""
    heads = {"gender": ["female", "male"], "age": ["young", "old"], "skin": ["light", "medium", "dark"]}
    return {
        "resnet_basic": {
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 16],
            "depths": [1, 2, 1],
            "layer_type": "basic",
            "num_labels": 7,
            "heads": heads,
        },
        "resnet_bottleneck": {
            "embedding_size": 8,
            "hidden_sizes": [16, 32],
            "depths": [2, 1],
            "layer_type": "bottleneck",
            "downsample_in_first_stage": True,
            "downsample_in_bottleneck": True,
            "num_labels": 5,
        },
    }
