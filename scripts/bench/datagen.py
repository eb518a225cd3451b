#!/usr/bin/env python3
"""Times pa-datagen against diffusers' pipeline and optimum's on ONNX Runtime: pictures per second.

    python scripts/bench/datagen.py BUNDLE [--model models/demo] [--pictures 64] [--steps 20] [--threads 2]
        [--rounds 3] [--batches 4,8,16,32] [--size 512x512] [--profile]

BUNDLE is `pa-export MODEL -o BUNDLE`; the release build of pa-datagen is used. All draw the same captions at as
many Euler steps with guidance 5 and hand out pictures; pa-datagen also writes them, with latents and embeddings.
The peers get their best batch of --batches; optimum runs the bundle's own graphs. Loading the model is left out on
all sides. Rounds alternate, so that a busy machine slows all; medians are shown. --profile adds where pa-datagen's
time goes, as its last event tells.

A checkpoint of SD 1.5's shape: scripts/bench/synthetic_checkpoint.py OUT --kind sd15 (then --size 512x512
--pictures 1 --steps 2 --batches 1).

Needs: torch, diffusers, transformers and 'optimum-onnx[onnxruntime]', which wants diffusers below 0.38; and
ORT_DYLIB_PATH if scripts/setup has not been run.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import diffusers
import onnxruntime
import optimum.onnxruntime
import torch
import transformers

CAPTIONS = [f"a photo of a {name}" for name in ("doctor", "nurse", "plumber", "teacher", "house", "tree", "pilot", "chef")]
GUIDANCE = 5.0


def ours(args):
    """The event at the end of a run, in which the command says how fast it drew."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        captions = CAPTIONS[: args.pictures]
        prompts.write_text("\n".join(captions) + "\n")
        each = -(-args.pictures // len(captions))
        command = [args.binary, "--model", args.bundle, "--prompts", prompts, "--out", Path(folder) / "out"]
        command += ["--neutral", each, "--steps", args.steps, "--cfg", GUIDANCE, "--threads", args.threads]
        command += ["--ep", "cpu", "--json"] + (["--size", args.size] if args.size else [])
        command = [str(word) for word in command]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return json.loads(lines[-1])


def theirs(pipe, args, batch):
    captions = (CAPTIONS * args.pictures)[: args.pictures]
    size = {}
    if args.size:
        width, height = map(int, args.size.split("x"))
        size = {"width": width, "height": height}
    start = time.perf_counter()
    for first in range(0, args.pictures, batch):
        own = captions[first : first + batch]
        pipe(own, num_inference_steps=args.steps, guidance_scale=GUIDANCE, **size)
    return args.pictures / (time.perf_counter() - start)


def kinds(bundle):
    """diffusers' class and optimum's."""
    name = json.loads((Path(bundle) / "model_index.json").read_text())["_class_name"]
    return getattr(diffusers, name), getattr(optimum.onnxruntime, f"ORT{name}")


def peers(args):
    """Each peer's pipeline, loaded."""
    of_diffusers, of_optimum = kinds(args.bundle)
    extra = {"add_watermarker": False} if "XL" in of_diffusers.__name__ else {"safety_checker": None}
    eager = of_diffusers.from_pretrained(args.model, **extra).to(torch.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = args.threads
    graphs = of_optimum.from_pretrained(args.bundle, provider="CPUExecutionProvider", session_options=options)
    found = {"diffusers": eager, "optimum": graphs}
    for pipe in found.values():
        pipe.set_progress_bar_config(disable=True)
        pipe(CAPTIONS[:1], num_inference_steps=1)
    return found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--binary", default="target/release/pa-datagen")
    parser.add_argument("--model", default="models/demo")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", default="4,8,16,32")
    parser.add_argument("--size")
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    pipes = peers(args)
    batches = [int(batch) for batch in args.batches.split(",")]
    rates = {"pa-datagen": []} | {f"{peer}, batch {batch}": [] for peer in pipes for batch in batches}
    for _ in range(args.rounds):
        for name, found in rates.items():
            if name == "pa-datagen":
                last = ours(args)
                found.append(last["pictures_per_second"])
            else:
                peer, batch = name.split(", batch ")
                found.append(theirs(pipes[peer], args, int(batch)))
    median = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in median.items():
        print(f"{name}: {rate:.3g} pictures/s  {[round(r, 3) for r in rates[name]]}")
    for peer in pipes:
        best = max(rate for name, rate in median.items() if name.startswith(peer))
        print(f"pa-datagen is {median['pa-datagen'] / best:.2f} times as fast as {peer} at its best batch")
    if args.profile:
        print(json.dumps(last, indent=1))


if __name__ == "__main__":
    main()
