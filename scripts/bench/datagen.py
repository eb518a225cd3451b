#!/usr/bin/env python3
"""Times pa-datagen against diffusers' pipeline: pictures per second on the demo model.

    python scripts/bench/datagen.py BUNDLE [--pictures 64] [--threads 2] [--rounds 3]

BUNDLE is `pa-export models/demo -o BUNDLE`; the release build of pa-datagen is used. Both draw the same
captions at 20 Euler steps with guidance 5 and hand out pictures; pa-datagen also writes them, with
latents and embeddings. diffusers gets its best batch of 4, 8, 16 and 32; loading the model is left out on
both sides. Rounds alternate, so that a busy machine slows both; the median is shown.

Needs: torch, diffusers, transformers, and ORT_DYLIB_PATH if scripts/setup has not been run.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import diffusers
import torch
import transformers

CAPTIONS = [f"a photo of a {name}" for name in ("doctor", "nurse", "plumber", "teacher", "house", "tree", "pilot", "chef")]


def ours(args):
    """Pictures per second, as the command itself reports for its drawing."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("\n".join(CAPTIONS) + "\n")
        each = str(-(-args.pictures // len(CAPTIONS)))
        command = [args.binary, "--model", args.bundle, "--prompts", prompts, "--out", Path(folder) / "out"]
        command += ["--neutral", each, "--steps", "20", "--threads", str(args.threads), "--ep", "cpu", "--json"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return json.loads(lines[-1])["pictures_per_second"]


def theirs(pipe, args, batch):
    captions = (CAPTIONS * args.pictures)[: args.pictures]
    start = time.perf_counter()
    for first in range(0, args.pictures, batch):
        pipe(captions[first : first + batch], num_inference_steps=20, guidance_scale=5.0)
    return args.pictures / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("--binary", default="target/release/pa-datagen")
    parser.add_argument("--model", default="models/demo")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(args.model, add_watermarker=False).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe(CAPTIONS, num_inference_steps=2)
    rates = {"pa-datagen": []} | {f"diffusers, batch {batch}": [] for batch in (4, 8, 16, 32)}
    for _ in range(args.rounds):
        for name, found in rates.items():
            found.append(ours(args) if name == "pa-datagen" else theirs(pipe, args, int(name.rsplit(" ")[-1])))
    median = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in median.items():
        print(f"{name}: {rate:.2f} pictures/s  {[round(r, 2) for r in rates[name]]}")
    best = max(rate for name, rate in median.items() if name != "pa-datagen")
    print(f"pa-datagen is {median['pa-datagen'] / best:.2f} times as fast as diffusers at its best batch")


if __name__ == "__main__":
    main()
