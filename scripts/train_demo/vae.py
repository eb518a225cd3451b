"""Trains the autoencoder: 64x64 pictures to 16x16x4 latents. Result: `WORK/vae.pt`.

Flat drawings want sharp edges, so the loss is L1 plus MSE plus L1 of the horizontal and vertical
differences. A weak KL term keeps the latent space smooth; there is no adversarial or perceptual term.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

import dataset
from training import RANKS, Log, Trainer, launch_by_arguments, mixed_precision, save_atomically

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
    trainer = Trainer(Path(work_dir) / "vae.checkpoint.pt", "model", vae, optimizer, EMA_DECAY)

    def batch_loss(generator):
        batch = pixels[torch.randint(0, len(pixels), (BATCH // RANKS,), generator=generator)]
        loss, mse = loss_of(vae, dataset.to_model_range(batch), generator)
        return loss, f"loss {loss.item():.4f} mse {mse.item():.5f}"

    def rate(step):
        return learning_rate(step, steps)

    trainer.run(log, rank, steps, rate, batch_loss, seed=1, save_every=SAVE_EVERY)
    if rank != 0:
        return
    trainer.ema.copy_to_model()
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
    launch_by_arguments(train, __doc__, STEPS)
