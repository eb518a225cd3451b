"""Draws the training pictures once and keeps them: `WORK/pictures.pt`.

Seeds are per block of pictures, so that the set does not depend on how many processes drew it.
"""

import argparse
import multiprocessing
import random
from pathlib import Path

import numpy as np
import torch

import world

COUNT = 36_000
BLOCK = 500
SEED = 20_000


def _stack(samples):
    """uint8 array [N, 64, 64, 3]."""
    return np.stack([np.asarray(sample.image) for sample in samples])


def _channels_first(pixels):
    """The array as a tensor [N, 3, 64, 64]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def pixels_of(samples):
    """uint8 pixels [N, 3, 64, 64] of the world's samples."""
    return _channels_first(_stack(samples))


def _draw_block(block):
    rng = random.Random(SEED + block)
    samples = [world.draw_sample(rng) for _ in range(BLOCK)]
    return _stack(samples), [tuple(sample[1:]) for sample in samples]


def draw_all(count=COUNT, processes=2):
    """uint8 pixels [count, 3, 64, 64] and one (caption, name, gender, skin, age, visibility) each."""
    with multiprocessing.Pool(processes) as pool:
        blocks = pool.map(_draw_block, range(count // BLOCK))
    pixels = _channels_first(np.concatenate([block[0] for block in blocks]))
    return pixels, [label for block in blocks for label in block[1]]


def load(work_dir):
    """The cached pictures as (pixels, labels); drawn on first use."""
    path = Path(work_dir) / "pictures.pt"
    if not path.exists():
        pixels, labels = draw_all()
        torch.save({"pixels": pixels, "labels": labels}, path)
    data = torch.load(path)
    return data["pixels"], data["labels"]


def to_model_range(pixels):
    """uint8 0..255 to float -1..1, as the VAE sees pictures."""
    return pixels.float() / 127.5 - 1.0


def from_model_range(pictures):
    """float -1..1 back to uint8."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    load(parser.parse_args().work_dir)
