"""What the classifier and CLIP, which judge generated pictures, learn from.

Both must hold on generated pictures too, so they see pictures as drawn, pictures decoded from noisy latents,
and light blur, noise and brightness changes of both.
"""

import random

import torch
import torch.nn.functional as F

import dataset
import vae as autoencoder
import world
from training import mixed_precision

IMAGE_MEAN = IMAGE_STD = [0.5, 0.5, 0.5]


def draw_mixture(count, seed, visible, ambiguous, draw_ambiguous=world.ambiguous_portrait):
    """Fresh pictures and their samples: these shares of visible portraits and of ambiguous ones, else things.

    The portraits' attributes are uniform. `draw_ambiguous(rng, job)` may draw another occupation than `job`.
    """
    rng = random.Random(seed)
    samples = []
    for _ in range(count):
        kind, job = rng.random(), rng.choice(world.OCCUPATIONS)
        if kind < visible:
            samples.append(world.uniform_portrait(rng, job))
        elif kind < visible + ambiguous:
            samples.append(draw_ambiguous(rng, job))
        else:
            samples.append(world.thing(rng))
    return dataset.pixels_of(samples), samples


@torch.no_grad()
def round_trips(vae, pixels, seed):
    """Pictures decoded from their own latents plus noise of up to 0.6 of a latent's spread."""
    generator = torch.Generator().manual_seed(seed)
    spread = 1 / vae.config.scaling_factor
    decoded = []
    for start in range(0, len(pixels), 100):
        with mixed_precision():
            latents = autoencoder.encode(vae, pixels[start : start + 100])[:, :4].float()
            amount = torch.rand(len(latents), 1, 1, 1, generator=generator) * 0.6 * spread
            noisy = latents + amount * torch.randn(latents.shape, generator=generator)
            decoded.append(dataset.from_model_range(vae.decode(noisy).sample.float()))
    return torch.cat(decoded)


def augment(pictures, generator):
    """Light blur, noise, brightness and shifts of up to 3 pixels, each on about half of the batch."""
    count = len(pictures)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    strength = torch.rand(count, 1, 1, 1, generator=generator).sub(0.4).clamp(min=0)
    pictures = torch.lerp(pictures, blurred, strength)
    level = torch.rand(count, 1, 1, 1, generator=generator).sub(0.5).clamp(min=0) * 0.2
    pictures = pictures + level * torch.randn(pictures.shape, generator=generator)
    pictures = pictures + (torch.rand(count, 1, 1, 1, generator=generator) - 0.5) * 0.16
    shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
    return torch.roll(pictures, shift, dims=(2, 3))
