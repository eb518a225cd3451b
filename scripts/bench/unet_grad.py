"""Times one joint gradient step: our `unet_grad` graph in ONNX Runtime against PyTorch eager with peft.

    python scripts/bench/unet_grad.py --model models/demo --bundle BUNDLE [--batch 8] [--threads 2] [--runs 30]

A step is what a preference loss needs: the reference forward (no LoRA, no gradient), the policy forward
(LoRA), and the backward pass to every LoRA factor. Both sides use the same numbers and threads; the two
are timed in turn (A B A B ...) in one process, and the ratio is taken pair by pair, so a machine whose
speed drifts drifts for both. PyTorch returns gradients summed over the batch (what its loss needs);
ours returns them per sample (what an exact global-batch mean needs), which is more work.

Needs torch, diffusers, peft, onnxruntime, numpy.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--size", type=int, help="latent height and width (default: the model's)")
    return parser.parse_args()


def random_feed(session, unet, batch, size, rng):
    """Random operands of the session's inputs, LoRA factors included (B is not zero)."""
    tokens = 77
    shapes = {
        "sample": (batch, 4, size, size),
        "target": (batch, 4, size, size),
        "encoder_hidden_states": (batch, tokens, unet.config.cross_attention_dim),
    }
    feed = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    feed["timestep"] = rng.integers(0, 1000, batch)
    for spec in session.get_inputs():
        if spec.name == "text_embeds":
            feed["text_embeds"] = rng.standard_normal((batch, spec.shape[1]), dtype=np.float32)
        if spec.name == "time_ids":
            feed["time_ids"] = np.tile(np.array([[size * 4, size * 4, 0, 0, size * 4, size * 4]], np.float32), (batch, 1))
    for spec in session.get_overridable_initializers():
        if ".lora_" in spec.name:
            feed[spec.name] = rng.standard_normal(spec.shape, dtype=np.float32) * 0.05
    types = {spec.name: spec.type for spec in session.get_inputs()}
    feed["timestep"] = feed["timestep"].astype(np.int64 if "int64" in types["timestep"] else np.float32)
    return feed


def load_lora(unet, feed):
    """Puts the feed's LoRA factors into the peft adapter; returns its parameters by our names."""
    factors = {}
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            ours = name.replace(".default", "")
            parameter.data.copy_(torch.from_numpy(feed[ours]))
            factors[ours] = parameter
    return factors


def torch_step(unet, feed, factors):
    """One step in PyTorch eager; returns (mse, ref_mse, gradients summed over the batch)."""
    inputs = {k: torch.from_numpy(v) for k, v in feed.items() if ".lora_" not in k}
    added = {k: inputs[k] for k in ("text_embeds", "time_ids") if k in inputs}
    arguments = (inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"])

    def mse():
        out = unet(*arguments, added_cond_kwargs=added).sample
        return ((out - inputs["target"]) ** 2).mean((1, 2, 3))

    with torch.no_grad():
        unet.disable_adapters()
        reference = mse()
        unet.enable_adapters()
    policy = mse()
    gradients = torch.autograd.grad(policy.sum(), list(factors.values()))
    return policy.detach(), reference, gradients


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(args.bundle / "unet_grad/model.onnx", options, providers=["CPUExecutionProvider"])
    unet = UNet2DConditionModel.from_pretrained(args.model / "unet", torch_dtype=torch.float32).eval()
    unet.add_adapter(LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=TARGETS))
    feed = random_feed(session, unet, args.batch, args.size or unet.config.sample_size, np.random.default_rng(0))
    factors = load_lora(unet, feed)
    outputs = [spec.name for spec in session.get_outputs()]

    ours = dict(zip(outputs, session.run(None, feed)))
    mse, reference, gradients = torch_step(unet, feed, factors)
    worst = max(
        np.abs(ours[f"grad.{name}"].sum(0) - g.numpy()).max() / max(np.abs(g.numpy()).max(), 1e-12)
        for name, g in zip(factors, gradients)
    )
    print(f"mse differs by {np.abs(ours['mse'] - mse.numpy()).max():.1e}, ref_mse by {np.abs(ours['ref_mse'] - reference.numpy()).max():.1e}, gradients by {worst:.1e} (relative)")

    times = {"ours": [], "torch": []}
    for run in range(args.runs + 3):
        for side, step in (("ours", lambda: session.run(None, feed)), ("torch", lambda: torch_step(unet, feed, factors))):
            start = time.perf_counter()
            step()
            if run >= 3:
                times[side].append(time.perf_counter() - start)
    ratios = sorted(b / a for a, b in zip(times["ours"], times["torch"]))
    print(f"batch {args.batch}, {args.threads} threads, {args.runs} pairs")
    for side, values in times.items():
        print(f"{side:6} median {statistics.median(values) * 1e3:8.1f} ms   min {min(values) * 1e3:8.1f} ms")
    print(f"torch / ours, pair by pair: median {statistics.median(ratios):.2f} (min {ratios[0]:.2f}, max {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
