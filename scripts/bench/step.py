"""Times whole training steps: pa-finetune against the official loop in PyTorch eager with peft.

    python scripts/bench/step.py compare --model MODEL --bundle BUNDLE [--data DIR] [--bin target/release]
        [--batch 4] [--micro-batch 8] [--steps 5] [--rounds 5] [--threads 2] [--encoders] [--checkpointing]
    python scripts/bench/step.py theirs --model MODEL --data DIR ...      one run of the PyTorch side

A step is everything from pairs to updated factors: noise, both forwards, the loss, the backward pass,
clipping, AdamW. Both sides run as processes of their own, in turn (A B A B ...); of each the first step is
left out, the median of the others counts, and the ratio is taken round by round, so that a machine whose
speed drifts drifts for both. Peak memory is the operating system's figure for the process.

The PyTorch side does what the official main.py does with --use_lora: policy forward and backward through
autograd, reference forward with the adapter switched off, AdamW, clipping; with --checkpointing also its
gradient checkpointing, and with --encoders also the VAE and text encoders that it runs in every step, on random
pictures and captions. MODEL is a diffusers folder; parts that it lacks are made from the configurations
under src/bundle/configs with random weights. Without --data a random data set of the bundle's shape is
written.

Needs torch, diffusers, transformers, peft, safetensors, numpy.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from commands import measured

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/oracle"))
from philox import caption_id  # noqa: E402

TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
TOKENS = 77


def write_data(out, config, size):
    """A random data set in pa-datagen's format: one subject, four identity-specific captions, four pictures each."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    neutral = "a photo of a doctor"
    captions = [neutral] + [f"a photo of a {value} doctor" for value in ("female", "male", "young", "old")]
    pooled = None
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    rows, text = [], {}
    for caption in captions:
        key = f"{caption_id(caption):08x}"
        text[f"prompt_embeds.{key}"] = rng.standard_normal((TOKENS, config["cross_attention_dim"]), dtype=np.float32)
        if pooled:
            text[f"pooled.{key}"] = rng.standard_normal(pooled, dtype=np.float32)
        for image in range(4):
            axes = {} if caption == neutral else {"who": caption.split()[4]}
            kind = "neutral" if caption == neutral else "specific"
            place = {"file": "latents-00000.safetensors", "index": len(rows)}
            rows.append(
                {"file_name": None, "prompt": caption, "neutral_prompt": neutral, "subject": "doctor", "kind": kind,
                 "axes": axes, "seed": 0, "prompt_id": caption_id(caption), "image_id": image, "latents": place,
                 "sha256": None, "verdict": None, "dropped": None}
            )  # fmt: skip
    out.mkdir(parents=True)
    latents = rng.standard_normal((len(rows), 4, size, size), dtype=np.float32)
    save_file({"latents": latents}, out / "latents-00000.safetensors")
    save_file(text, out / "text.safetensors")
    (out / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["latents-00000.safetensors", "text.safetensors", "metadata.jsonl"]
    layout = {"width": 8 * size, "height": 8 * size, "latent": [4, size, size],
              "prompt_embeds": [TOKENS, config["cross_attention_dim"]], "pooled": pooled,
              "captions": len(captions), "images": len(rows), "unit_images": len(rows)}  # fmt: skip
    outcome = {"kept": len(rows), "dropped": {}, "sha256": {f: hashlib.sha256((out / f).read_bytes()).hexdigest() for f in files}}
    manifest = {"format": "popalign-dataset-1", "config": {}, "versions": {}, "layout": layout, "outcome": outcome}
    (out / "manifest.json").write_text(json.dumps(manifest))


def load(cls, model, part):
    """A part of a diffusers folder in fp32, or its configuration with random weights."""
    import torch

    if (model / part).is_dir():
        return cls.from_pretrained(model / part, torch_dtype=torch.float32)
    kind = "sdxl" if (model / "text_encoder_2").is_dir() else "sd15"
    config = json.loads((ROOT / f"src/bundle/configs/{kind}/{part}/config.json").read_text())
    if hasattr(cls, "from_config"):
        return cls.from_config(config)
    return cls(cls.config_class.from_dict(config))


class Encoders:
    """What the official loop runs before the UNet: the VAE's encoder and the text encoders."""

    def __init__(self, model, two):
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        self.vae = load(AutoencoderKL, model, "vae").eval()
        self.text = [load(CLIPTextModel, model, "text_encoder").eval()]
        if two:
            self.text.append(load(CLIPTextModelWithProjection, model, "text_encoder_2").eval())

    def run(self, batch, size):
        import torch

        with torch.no_grad():
            pictures = torch.rand(batch, 3, size, size) * 2 - 1
            self.vae.encode(pictures).latent_dist.sample()
            for text in self.text:
                ids = torch.randint(0, text.config.vocab_size, (batch, TOKENS))
                text(ids, output_hidden_states=True)


def theirs(args):
    import torch
    import torch.nn.functional as F
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from peft import LoraConfig
    from safetensors.torch import load_file

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    unet = load(UNet2DConditionModel, args.model, "unet")
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=8, lora_alpha=8, init_lora_weights="gaussian", target_modules=TARGETS))
    if args.checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    factors = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=1e-5)
    noise_schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents = load_file(args.data / "latents-00000.safetensors")["latents"]
    text = load_file(args.data / "text.safetensors")
    key = next(name.split(".")[1] for name in text)
    two = unet.config.addition_embed_type == "text_time"
    encoders = Encoders(args.model, two) if args.encoders else None
    n = 2 * args.batch
    states = text[f"prompt_embeds.{key}"].expand(n, -1, -1)
    side = 8.0 * latents.shape[-1]
    added = {}
    if two:
        ids = torch.tensor([[side, side, 0.0, 0.0, side, side]]).expand(n, -1)
        added = {"text_embeds": text[f"pooled.{key}"].expand(n, -1), "time_ids": ids}
    sign = torch.tensor([1.0, -1.0]).repeat_interleave(n // 2)

    def step():
        if encoders:
            encoders.run(n, int(side))
        x0 = latents[torch.randint(len(latents), (n,))]
        noise = torch.randn(n // 2, *x0.shape[1:]).repeat(2, 1, 1, 1)
        t = torch.randint(0, 1000, (n // 2,)).repeat(2)
        noisy = noise_schedule.add_noise(x0, noise, t)
        error = lambda out: (out.sample - noise).pow(2).mean((1, 2, 3))
        mse = error(unet(noisy, t, states, added_cond_kwargs=added))
        with torch.no_grad():
            unet.disable_adapters()
            ref_mse = error(unet(noisy, t, states, added_cond_kwargs=added))
            unet.enable_adapters()
        g = ref_mse - mse
        mu = 0.5 * (g[: n // 2].mean() + g[n // 2 :].mean()).detach()
        loss = -F.logsigmoid(sign * 5000 * (g - mu)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(factors, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for number in range(args.steps):
        start = time.perf_counter()
        step()
        print(json.dumps({"step": number, "seconds": time.perf_counter() - start}), flush=True)


def peak_of(command, **options):
    """Runs a command; its peak memory in GiB."""
    with tempfile.TemporaryFile("w+") as said:
        code, _, usage = measured(command, stderr=said, **options)
        if code:
            said.seek(0)
            raise SystemExit(f"{said.read()}failed: {' '.join(map(str, command))}")
    return usage.ru_maxrss / 2**20


def ours(args, work, number):
    out = work / f"ours-{number}"
    command = [args.bin / "pa-finetune", "--model", args.bundle, "--data", args.data, "--out", out]
    for option in ("batch", "steps", "threads"):
        command += [f"--{option}", str(getattr(args, option))]
    command += ["--micro-batch", str(args.micro_batch or 2 * args.batch), "--save-every", str(args.steps), "--unfiltered"]
    peak = peak_of(command)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][1:]
    outside = [line["seconds"] - line["runtime_seconds"] for line in lines]
    seconds = statistics.median(line["seconds"] for line in lines)
    return seconds, peak, statistics.median(outside) / seconds


def theirs_once(args, work, number):
    out = work / f"theirs-{number}.jsonl"
    command = [sys.executable, __file__, "theirs", "--model", args.model, "--data", args.data]
    for option in ("batch", "steps", "threads"):
        command += [f"--{option}", str(getattr(args, option))]
    command += ["--encoders"] * args.encoders + ["--checkpointing"] * args.checkpointing
    with out.open("w") as file:
        peak = peak_of(command, stdout=file)
    lines = [json.loads(line) for line in out.read_text().splitlines()][1:]
    return statistics.median(line["seconds"] for line in lines), peak


def compare(args):
    config = json.loads((args.bundle / "unet/config.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.data is None:
            args.data = work / "data"
            write_data(args.data, config, args.size or config["sample_size"])
        rounds = []
        for number in range(args.rounds):
            a, a_peak, outside = ours(args, work, number)
            b, b_peak = theirs_once(args, work, number)
            rounds.append((b / a, a_peak / b_peak))
            print(f"ours {a:.3f} s, {a_peak:.2f} GiB, {outside:.2%} outside the runtime; theirs {b:.3f} s, {b_peak:.2f} GiB", flush=True)
        for name, values in zip(("theirs / ours, time", "ours / theirs, peak memory"), zip(*rounds)):
            print(f"{name}: median {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["compare", "theirs"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release")
    parser.add_argument("--size", type=int, help="latents' height and width of a random data set")
    parser.add_argument("--batch", type=int, default=4, help="pairs: twice as many pictures")
    parser.add_argument("--micro-batch", type=int, help="pictures the network takes at once")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoders", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    globals()[args.mode](args)


if __name__ == "__main__":
    main()
