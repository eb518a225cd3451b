"""Trains the UNet and both text encoders together on cached latents. Result: `WORK/unet.pt`.

Epsilon prediction on SDXL's noise schedule. Four choices shorten training on two cores:
timesteps are stratified over the batch, losses are weighted min(SNR, 5) / SNR, latents are the
posterior means, and the weights shipped are an exponential moving average. A tenth of the captions is
dropped, by zeroing their embeddings, which is what SDXL takes an empty prompt to be.
"""

from pathlib import Path

import torch
import torch.distributed as dist

import dataset
import networks
import tokenizer
import vae as autoencoder
from training import RANKS, Log, Trainer, launch_by_arguments, mixed_precision, save_atomically, trainable

PICTURES = 18_000
STEPS = 5000
BATCH = 32
LEARNING_RATE = 1e-3
WARMUP = 150
WEIGHT_DECAY = 1e-3
EMA_DECAY = 0.998
DROP_RATE = 0.10
MAX_SNR = 5.0
SEED = 2
SAVE_EVERY = 100


def signal_levels():
    """Cumulated alphas of the scaled-linear schedule, [1000]."""
    low, high = networks.SCHEDULER["beta_start"] ** 0.5, networks.SCHEDULER["beta_end"] ** 0.5
    return torch.cumprod(1 - torch.linspace(low, high, 1000) ** 2, 0)


def latents_of(rank, work_dir):
    """Scaled latents [N, 4, 16, 16] and captions; each rank encodes its share on first use."""
    path = Path(work_dir) / "latents.pt"
    if not path.exists():
        pixels, labels = dataset.load(work_dir)
        pixels, labels = pixels[:PICTURES], labels[:PICTURES]
        model = autoencoder.load(work_dir)
        share = -(-len(pixels) // RANKS)
        with torch.no_grad():
            mine = autoencoder.encode(model, pixels[rank * share : (rank + 1) * share])[:, :4].contiguous()
        parts = [torch.empty_like(mine) for _ in range(RANKS)]
        dist.all_gather(parts, mine)
        if rank == 0:
            latents = torch.cat(parts) * model.config.scaling_factor
            save_atomically({"latents": latents, "captions": [label[0] for label in labels]}, path)
        dist.barrier()
    data = torch.load(path)
    return data["latents"], data["captions"]


class CaptionBook:
    """Token ids of every caption, by caption number."""

    def __init__(self, captions):
        distinct = sorted(set(captions))
        number = {caption: index for index, caption in enumerate(distinct)}
        _, eos = tokenizer.special_ids()
        self.ids = torch.tensor(tokenizer.encode(distinct, eos))
        self.ids_2 = torch.tensor(tokenizer.encode(distinct, 0))
        self.of_picture = torch.tensor([number[caption] for caption in captions])


def draw_timesteps(count, generator):
    """One uniform timestep from each of `count` equal strata, shuffled."""
    offsets = torch.rand(count, generator=generator)
    order = torch.randperm(count, generator=generator)
    return ((order + offsets) / count * 1000).long().clamp(max=999)


def step_loss(unet, encoders, latents, ids, ids_2, levels, generator):
    """Weighted loss of one micro-batch, and the plain epsilon MSE for the log."""
    count = len(latents)
    timesteps = draw_timesteps(count, generator)
    noise = torch.randn(latents.shape, generator=generator)
    keep = (torch.rand(count, generator=generator) >= DROP_RATE).float()
    level = levels[timesteps][:, None, None, None]
    noisy = level.sqrt() * latents + (1 - level).sqrt() * noise
    time_ids = torch.tensor([networks.TIME_IDS], dtype=torch.float).expand(count, -1)
    with mixed_precision():
        hidden, pooled = networks.encode_text(encoders, ids, ids_2)
        hidden, pooled = hidden * keep[:, None, None], pooled * keep[:, None]
        added = {"text_embeds": pooled, "time_ids": time_ids}
        predicted = unet(noisy, timesteps, hidden, added_cond_kwargs=added).sample
    mse = (predicted.float() - noise).pow(2).mean(dim=(1, 2, 3))
    snr = (level / (1 - level)).flatten()
    weight = snr.clamp(max=MAX_SNR) / snr
    return (weight * mse).mean() / weight.mean(), mse.mean().item()


def learning_rate(step, steps, warm_from=0):
    """Linear warm-up from the step at which the optimizer started, flat to 40%, then linear decay to 1%."""
    return LEARNING_RATE * min(1, (step - warm_from + 1) / WARMUP, (1 - step / steps) / 0.6 + 0.01)


def build():
    """Untrained text encoders and UNet, and all three as one module."""
    encoders, unet = networks.build_text_encoders(), networks.build_unet()
    return encoders, unet, torch.nn.ModuleList([*encoders, unet])


def trainer_of(modules, work_dir):
    """The trainer of what `build` returns last."""
    optimizer = torch.optim.AdamW(trainable(modules), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    path = Path(work_dir) / "unet.checkpoint.pt"
    return Trainer(path, "modules", modules, optimizer, EMA_DECAY, warm_from=0, running=0.0)


def train(rank, work_dir, steps):
    log = Log("unet")
    latents, captions = latents_of(rank, work_dir)
    book = CaptionBook(captions)
    torch.manual_seed(SEED)
    encoders, unet, modules = build()
    trainer = trainer_of(modules, work_dir)
    levels = signal_levels()

    def batch_loss(generator):
        pick = torch.randint(0, len(latents), (BATCH // RANKS,), generator=generator)
        caption = book.of_picture[pick]
        loss, mse = step_loss(
            unet, encoders, latents[pick], book.ids[caption], book.ids_2[caption], levels, generator
        )
        notes = trainer.notes
        notes["running"] += (mse - notes["running"]) * max(0.01, 1 / (trainer.step + 1))
        return loss, f"epsilon mse {notes['running']:.4f}"

    def rate(step):
        return learning_rate(step, steps, trainer.notes["warm_from"])

    trainer.run(log, rank, steps, rate, batch_loss, seed=SEED, save_every=SAVE_EVERY)


def load(work_dir):
    """(text encoder, text encoder 2, unet) with averaged weights of the latest checkpoint, and its step."""
    encoders, unet, modules = build()
    trainer = trainer_of(modules, work_dir)
    trainer.restore(torch.load(trainer.path))
    trainer.ema.copy_to_model()
    modules.eval().requires_grad_(False)
    return encoders[0], encoders[1], unet, trainer.step


if __name__ == "__main__":
    launch_by_arguments(train, __doc__, STEPS)
