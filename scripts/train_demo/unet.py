"""Trains the UNet and both text encoders together on cached latents. Result: `WORK/unet.pt`.

Epsilon prediction on SDXL's noise schedule. Four choices shorten training on two cores:
timesteps are stratified over the batch, losses are weighted min(SNR, 5) / SNR, latents are the
posterior means, and the weights shipped are an exponential moving average. A tenth of the captions is
dropped, by zeroing their embeddings, which is what SDXL takes an empty prompt to be.
"""

import argparse
from pathlib import Path

import torch
import torch.distributed as dist

import dataset
import networks
import tokenizer
import vae as autoencoder
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


def train(rank, work_dir, steps):
    log = Log("unet")
    latents, captions = latents_of(rank, work_dir)
    book = CaptionBook(captions)
    torch.manual_seed(SEED)
    encoders, unet = networks.build_text_encoders(), networks.build_unet()
    modules = torch.nn.ModuleList([*encoders, unet])
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    ema = Ema(parameters, EMA_DECAY)
    path, step, running = Path(work_dir) / "unet.checkpoint.pt", 0, 0.0
    warm_from = 0
    if saved := load_if_there(path):
        modules.load_state_dict(saved["modules"])
        optimizer.load_state_dict(saved["optimizer"])
        ema.restore(saved["ema"])
        step, running, warm_from = saved["step"], saved["running"], saved["warm_from"]
    levels = signal_levels()
    while step < steps:
        generator = step_generator(SEED, step, rank)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, warm_from)
        pick = torch.randint(0, len(latents), (BATCH // RANKS,), generator=generator)
        caption = book.of_picture[pick]
        loss, mse = step_loss(
            unet, encoders, latents[pick], book.ids[caption], book.ids_2[caption], levels, generator
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update()
        step += 1
        running += (mse - running) * max(0.01, 1 / step)
        if rank == 0 and step % 50 == 0:
            log(f"step {step}/{steps} epsilon mse {running:.4f}")
        if rank == 0 and (step % SAVE_EVERY == 0 or step == steps):
            state = {
                "modules": modules.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state(),
                "step": step,
                "warm_from": warm_from,
                "running": running,
            }
            save_atomically(state, path)


def load(work_dir):
    """(text encoder, text encoder 2, unet) with averaged weights of the latest checkpoint, and its step."""
    saved = torch.load(Path(work_dir) / "unet.checkpoint.pt")
    encoders, unet = networks.build_text_encoders(), networks.build_unet()
    modules = torch.nn.ModuleList([*encoders, unet])
    modules.load_state_dict(saved["modules"])
    parameters = [p for p in modules.parameters() if p.requires_grad]
    ema = Ema(parameters, EMA_DECAY)
    ema.restore(saved["ema"])
    ema.copy_to_model()
    modules.eval().requires_grad_(False)
    return encoders[0], encoders[1], unet, saved["step"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    launch(train, arguments.work_dir, arguments.steps)
