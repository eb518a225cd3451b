"""Weights that Rust and numpy both make (`tests/judges/seeded.rs`), so that files of the true formats can be
committed without their numbers: each tensor's follow from its name, its shape and a seed.

A committed file is a skeleton: the true file with every tensor zero, gzipped.
"""

import gzip

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15


def fnv(text):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def uniform(name, count, seed):
    """Numbers of [-1, 1): splitmix64 of the name's hash and the place."""
    with np.errstate(over="ignore"):
        x = np.uint64(fnv(f"{seed}:{name}")) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def values(name, shape, seed=0):
    """A tensor's numbers, as float64: of norms about 1, of others such that sums keep their size."""
    count = int(np.prod(shape, dtype=np.int64))
    u = uniform(name, count, seed)
    lower = name.lower()
    norm = any(part in lower for part in ["ln_", "layer_norm", "layernorm", "layrnorm", "bn", "running_", "norm."])
    if "logit_scale" in lower:
        u = np.full(count, np.log(100.0))
    elif norm and (lower.endswith("weight") or "running_var" in lower):
        u = 1.0 + 0.1 * u
    elif len(shape) < 2:
        u = 0.1 * u
    else:
        # Keras has [height, width, in, out], torch [out, in, height, width].
        fan_in = np.prod(shape[:-1] if "kernel" in lower else shape[1:], dtype=np.int64)
        u = u * np.sqrt(3.0 / fan_in)
    return u.reshape(shape)


def fill(state, seed=0):
    """Gives each tensor of a torch state dict its numbers."""
    import torch

    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(np.array(values(name, tuple(tensor.shape), seed))).to(tensor.dtype))


def skeleton(path, out):
    """Commits a file whose tensors were written as zeros. Packed twice where `out` ends so: zeros leave zeros."""
    packed = path.read_bytes()
    for _ in range(str(out).count(".gz")):
        packed = gzip.compress(packed, 9, mtime=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(packed)
