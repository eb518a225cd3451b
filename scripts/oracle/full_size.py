"""Runs full-size networks: ours in ONNX Runtime, the same in diffusers, and compares.

    python scripts/oracle/full_size.py weights OUT --kind sd15|sdxl [--dtype float16]
    python scripts/oracle/full_size.py ours GRAPH --size 64 [--batch 1] [--runs 1] --out ours.npz
    python scripts/oracle/full_size.py theirs FOLDER --size 64 [--batch 1] [--grad] --out theirs.npz
    python scripts/oracle/full_size.py compare ours.npz theirs.npz

`weights` writes a UNet of that kind with random weights in diffusers' layout, which `pa-export
OUT -o BUNDLE --parts unet,unet_grad` takes. `ours` and `theirs` draw the same operands, run once (`--runs`
more for the time) and save their outputs; each is a process of its own, because both networks at once
don't fit, and prints its peak memory. `theirs --grad` is PyTorch's autograd through peft's layers, one
backward pass per sample, of the gradients of SAMPLED factors. `compare` prints the largest difference
of each output relative to its largest value.

Needs torch, diffusers, peft, onnxruntime, numpy.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
TOKENS = 77
SAMPLED = 20
RANK = 8


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def operands(config, batch, size):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    feed = {
        "sample": normal(batch, 4, size, size),
        "target": normal(batch, 4, size, size),
        "encoder_hidden_states": normal(batch, TOKENS, config["cross_attention_dim"]),
        "timestep": rng.integers(0, 1000, batch).astype(np.float32),
    }
    if config.get("addition_embed_type") == "text_time":
        feed["text_embeds"] = normal(batch, 1280)
        side = 8.0 * size
        feed["time_ids"] = np.tile(np.array([[side, side, 0, 0, side, side]], np.float32), (batch, 1))
    return feed


def factor(name, shape):
    """A LoRA factor's values, from its name, so that both sides need not agree on an order."""
    seed = np.frombuffer(name.encode(), np.uint8).astype(np.uint32)
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return values * np.float32(0.05)


def sampled(names):
    names = sorted(names)
    return [names[i * (len(names) - 1) // (SAMPLED - 1)] for i in range(SAMPLED)]


def weights(args):
    import torch
    from diffusers import UNet2DConditionModel

    config = json.loads((ROOT / f"src/bundle/configs/{args.kind}/unet/config.json").read_text())
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, args.dtype))
    unet = UNet2DConditionModel.from_config(config)
    unet.save_pretrained(args.path / "unet", max_shard_size="5GB")
    index = (ROOT / f"src/bundle/configs/{args.kind}/model_index.json").read_text()
    (args.path / "model_index.json").write_text(index)


def ours(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    # An arena grows by doubling and would hide what the graph itself needs.
    options.enable_cpu_mem_arena = False
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(str(args.path), options, providers=["CPUExecutionProvider"])
    loaded, load_time = peak(), time.perf_counter() - start
    config = json.loads((args.path.parents[1] / "unet/config.json").read_text())
    all_operands = operands(config, args.batch, args.size)
    feed = {spec.name: all_operands[spec.name] for spec in session.get_inputs()}
    if "target" not in feed:
        feed["timestep"] = feed["timestep"][0, ...]
    factors = [spec for spec in session.get_overridable_initializers() if ".lora_" in spec.name]
    if "target" in feed:
        feed |= {spec.name: factor(spec.name, spec.shape) for spec in factors}
    outputs = [spec.name for spec in session.get_outputs() if not spec.name.startswith("grad.")]
    grads = [spec.name for spec in session.get_outputs() if spec.name.startswith("grad.")]
    # Every gradient is computed; only the sampled ones are kept.
    times, processor = [], []
    for _ in range(args.runs):
        start, cpu = time.perf_counter(), time.process_time()
        results = dict(zip(outputs + grads, session.run(outputs + grads, feed)))
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    kept = outputs + (sampled(grads) if grads else [])
    np.savez(args.out, **{name: results[name] for name in kept})
    print(
        f"ours: loaded in {load_time:.1f} s with {loaded:.2f} GiB; "
        f"run {min(times):.2f} s ({min(processor):.2f} s of processor), peak {peak():.2f} GiB"
    )


def theirs(args):
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(args.threads)
    unet = UNet2DConditionModel.from_pretrained(args.path, subfolder="unet", torch_dtype=torch.float32)
    unet.requires_grad_(False)
    loaded = peak()
    feed = {k: torch.from_numpy(v) for k, v in operands(unet.config, args.batch, args.size).items()}
    added = {k: feed[k] for k in ("text_embeds", "time_ids") if k in feed} or None
    states = feed["encoder_hidden_states"]

    def predict(timestep):
        return unet(feed["sample"], timestep, states, added_cond_kwargs=added).sample

    start = time.perf_counter()
    if args.grad:
        results = gradients(unet, feed, predict)
    else:
        with torch.no_grad():
            results = {"out_sample": predict(feed["timestep"][0])}
    seconds = time.perf_counter() - start
    np.savez(args.out, **{name: value.numpy() for name, value in results.items()})
    print(f"theirs: loaded {loaded:.2f} GiB; run {seconds:.2f} s, peak {peak():.2f} GiB")


def gradients(unet, feed, predict):
    import torch
    from peft import LoraConfig

    def error(prediction):
        return (prediction - feed["target"]).square().mean((1, 2, 3))

    with torch.no_grad():
        ref_mse = error(predict(feed["timestep"]))
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    parameters = {}
    for name, parameter in unet.named_parameters():
        if ".lora_" in name:
            plain = name.replace(".default.", ".")
            parameters[f"grad.{plain}"] = parameter
            parameter.data = torch.from_numpy(factor(plain, tuple(parameter.shape)))
    chosen = sampled(parameters)
    mse = error(predict(feed["timestep"]))
    found = {name: [] for name in chosen}
    for i in range(len(mse)):
        grads = torch.autograd.grad(mse[i], [parameters[n] for n in chosen], retain_graph=i + 1 < len(mse))
        for name, grad in zip(chosen, grads):
            found[name].append(grad)
    grads = {name: torch.stack(values) for name, values in found.items()}
    return {"mse": mse.detach(), "ref_mse": ref_mse} | grads


def compare(args):
    a, b = np.load(args.path), np.load(args.other)
    if set(a.files) != set(b.files):
        raise SystemExit(f"only one side has {sorted(set(a.files) ^ set(b.files))}")
    worst = 0.0
    for name in sorted(a.files):
        relative = float(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max())
        worst = max(worst, relative)
        print(f"{relative:.1e} {name} {list(a[name].shape)}")
    print(f"{len(a.files)} outputs, largest relative difference {worst:.2e}")
    if not worst <= args.tolerance:
        raise SystemExit(f"more than {args.tolerance}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["weights", "ours", "theirs", "compare"])
    parser.add_argument("path", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--kind", choices=["sd15", "sdxl"], default="sd15")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grad", action="store_true")
    parser.add_argument("--out", type=Path)
    # Both sides compute in f32; a deep network adds up roundings in another order.
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    globals()[args.mode](args)


if __name__ == "__main__":
    main()
