"""Draws the pictures of a `pa-datagen` data set again with a pipeline of diffusers' kind."""

import json

import numpy as np
import torch
from PIL import Image

import philox

# Of 255: what the rounding of a pixel can turn a network's rounding into.
PICTURE = 2


def differences(pipe, folder):
    """Yields (prompt, largest difference of 255) of each picture, drawn from the latents `pa-datagen` addresses."""
    manifest = json.loads((folder / "manifest.json").read_text())
    config, shape = manifest["config"], manifest["layout"]["latent"]
    for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines()):
        latents = philox.normal(row["seed"], philox.INIT_LATENT, row["prompt_id"], row["image_id"], 0, shape)
        ours = np.asarray(Image.open(folder / row["file_name"]).convert("RGB"), np.int64)
        drawn = pipe(
            row["prompt"],
            latents=torch.from_numpy(latents)[None],
            height=ours.shape[0],
            width=ours.shape[1],
            num_inference_steps=config["steps"],
            guidance_scale=config["cfg"],
            output_type="np",
        ).images[0]
        yield row["prompt"], int(np.abs(levels(drawn) - ours).max())


def levels(picture):
    """0..1 to whole levels of 255."""
    return np.rint(picture * 255).astype(np.int64)
