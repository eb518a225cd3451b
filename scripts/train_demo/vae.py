"""Trains the autoencoder: 64x64 pictures to 16x16x4 latents. Result: `WORK/vae.pt`.

Flat drawings want sharp edges, so the loss is L1 plus MSE plus L1 of the horizontal and vertical
differences. A weak KL term keeps the latent space smooth; there is no adversarial or perceptual term.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import dataset
from training import (
    RANKS,
    Ema,
    Log,
    average_gradients,
    launch,
    load_if_there,
    mixed_precision,
    save_atomically,
    step_generator,
)

STEPS = 2600
BATCH = 16
LEARNING_RATE = 2e-3
WARMUP = 60
KL_WEIGHT = 4e-4
EMA_DECAY = 0.995
LATENT_STD = 2.0  # not 1, so that code which forgets the scaling factor shows, as it does with SDXL
SAVE_EVERY = 200


def build():
    """An untrained AutoencoderKL in SDXL's layout (0.84 M parameters)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=64,
        force_upcast=False,
    )


def _edges(pictures):
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def loss_of(vae, pictures, generator):
    """Training loss and the plain MSE (both on the -1..1 scale)."""
    with mixed_precision():
        moments = vae.encode(pictures).latent_dist
        decoded = vae.decode(moments.sample(generator)).sample
    decoded = decoded.float()
    mse = F.mse_loss(decoded, pictures)
    edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(decoded), _edges(pictures)))
    kl = 0.5 * (moments.mean.float() ** 2 + moments.var.float() - 1 - moments.logvar.float()).mean()
    return F.l1_loss(decoded, pictures) + 2 * mse + edges + KL_WEIGHT * kl, mse


def learning_rate(step, steps):
    """Linear warm-up, flat to the middle, then linear decay."""
    return LEARNING_RATE * min(1, (step + 1) / WARMUP, 2 * (1 - step / steps) + 0.005)


def train(rank, work_dir, steps):
    torch.manual_seed(1)
    log = Log("vae")
    pixels, _ = dataset.load(work_dir)
    vae = build()
    optimizer = torch.optim.AdamW(vae.parameters(), LEARNING_RATE, weight_decay=1e-4)
    ema = Ema(vae.parameters(), EMA_DECAY)
    path, step = Path(work_dir) / "vae.checkpoint.pt", 0
    if saved := load_if_there(path):
        vae.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.restore(saved["ema"])
        step = saved["step"]
    while step < steps:
        generator = step_generator(1, step, rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = pixels[torch.randint(0, len(pixels), (BATCH // RANKS,), generator=generator)]
        loss, mse = loss_of(vae, dataset.to_model_range(batch), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(list(vae.parameters()))
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        ema.update()
        step += 1
        if rank == 0 and step % 50 == 0:
            log(f"step {step}/{steps} loss {loss.item():.4f} mse {mse.item():.5f}")
        if rank == 0 and (step % SAVE_EVERY == 0 or step == steps):
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state(), "step": step}
            save_atomically(state, path)
    if rank != 0:
        return
    ema.copy_to_model()
    vae.eval()
    standardise_channels(vae, pixels[:1000])
    scaling = latent_scaling(vae, pixels[:1000])
    vae.register_to_config(scaling_factor=scaling)
    save_atomically({"model": vae.state_dict(), "scaling_factor": scaling}, Path(work_dir) / "vae.pt")
    log(f"done, scaling factor {scaling:.4f}")


@torch.no_grad()
def encode(vae, pixels, batch=100):
    """Mean and log-variance of the latents of uint8 pictures, [N, 8, 16, 16]."""
    parts = [vae.encode(dataset.to_model_range(pixels[i : i + batch])).latent_dist.parameters for i in range(0, len(pixels), batch)]
    return torch.cat(parts)


@torch.no_grad()
def standardise_channels(vae, pixels):
    """Gives each latent channel zero mean and the standard deviation LATENT_STD.

    The change is folded into the 1x1 convolutions on both sides of the latents, so that pictures decode to
    what they did; the UNet then meets channels of equal size.
    """
    latents = encode(vae, pixels)[:, :4]
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3)) / LATENT_STD
    into, back = vae.quant_conv, vae.post_quant_conv
    into.weight[:4] /= std[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - mean) / std
    into.bias[4:] -= 2 * std.log()
    back.bias += (back.weight[:, :, 0, 0] * mean).sum(1)
    back.weight *= std[None, :, None, None]


def latent_scaling(vae, pixels):
    """What brings latents to unit standard deviation, rounded to four digits as configs print it."""
    return round(1 / encode(vae, pixels)[:, :4].std().item(), 4)


def load(work_dir):
    """The trained autoencoder, in eval mode."""
    saved = torch.load(Path(work_dir) / "vae.pt")
    vae = build()
    vae.load_state_dict(saved["model"])
    vae.register_to_config(scaling_factor=saved["scaling_factor"])
    return vae.eval().requires_grad_(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    launch(train, arguments.work_dir, arguments.steps)
