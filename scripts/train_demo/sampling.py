"""Draws pictures with the trained model: 20 Euler steps with classifier-free guidance, as pa-datagen does."""

import torch

import dataset
import networks
import tokenizer

STEPS = 20
GUIDANCE = 5.0


@torch.no_grad()
def generate(models, captions, seed, steps=STEPS, guidance=GUIDANCE):
    """uint8 pictures [N, 3, 64, 64] for `captions`; `models` is (vae, encoder, encoder 2, unet)."""
    from diffusers import EulerDiscreteScheduler

    vae, encoder, encoder_2, unet = models
    count = len(captions)
    _, eos = tokenizer.special_ids()
    ids, ids_2 = (torch.tensor(tokenizer.encode(captions, pad)) for pad in (eos, 0))
    hidden, pooled = networks.encode_text((encoder, encoder_2), ids, ids_2)
    hidden = torch.cat([torch.zeros_like(hidden), hidden])
    pooled = torch.cat([torch.zeros_like(pooled), pooled])
    time_ids = torch.tensor([networks.TIME_IDS], dtype=torch.float).expand(2 * count, -1)
    added = {"text_embeds": pooled, "time_ids": time_ids}
    scheduler = EulerDiscreteScheduler.from_config(networks.SCHEDULER)
    scheduler.set_timesteps(steps)
    noise = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        doubled = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        empty, full = unet(doubled, timestep, hidden, added_cond_kwargs=added).sample.chunk(2)
        latents = scheduler.step(empty + guidance * (full - empty), timestep, latents).prev_sample
    return dataset.from_model_range(vae.decode(latents / vae.config.scaling_factor).sample)
