"""The addressed noise of src/random/philox.rs in numpy, bit for bit.

Single-precision `+ - * / sqrt` are correctly rounded in numpy too; the order of operations is that of
the Rust code.
"""

import hashlib

import numpy as np

INIT_LATENT = 1
GUIDANCE = 7
F = np.float32


def caption_id(caption):
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:4], "little")


def words(seed, purpose, prompt_id, image_id, step, blocks):
    """uint32 [blocks, 4]: Philox4x32-10 at the counters (block, purpose << 24 | step, prompt, image)."""
    mask = np.uint64(0xFFFFFFFF)
    fixed = (purpose << 24 | step, prompt_id, image_id)
    counter = [np.arange(blocks, dtype=np.uint64)] + [np.full(blocks, x, np.uint64) for x in fixed]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * counter[0]
        p1 = np.uint64(0xCD9E8D57) * counter[2]
        counter = [
            (p1 >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
            p1 & mask,
            (p0 >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
            p0 & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(counter, 1).astype(np.uint32)


def ln(x):
    """Cephes' logf."""
    bits = x.view(np.int32)
    exponent = (bits >> 23) - 126
    m = ((bits & 0x007FFFFF) | 0x3F000000).view(F)
    small = m < F(0.70710678)
    exponent = np.where(small, exponent - 1, exponent)
    m = np.where(small, m + m, m)
    e, x = exponent.astype(F), m - F(1)
    z = x * x
    y = np.full_like(x, 7.0376836e-2)
    for c in (-1.151461e-1, 1.1676999e-1, -1.2420141e-1, 1.4249323e-1, -1.6668057e-1, 2.0000715e-1):
        y = y * x + F(c)
    for c in (-2.4999994e-1, 3.333333e-1):
        y = y * x + F(c)
    y = y * x * z
    y = y + e * F(-2.1219444e-4)
    y = y - F(0.5) * z
    return (x + y) + e * F(0.6933594)


def sin_cos_turn(word):
    """Cephes' sinf and cosf of word / 2^32 of a full turn."""
    quadrant = (word + np.uint32(1 << 29)) >> np.uint32(30)
    x = (word - (quadrant << np.uint32(30))).view(np.int32).astype(F) * F(1.4629181e-9)
    z = x * x
    s = ((F(-1.9515296e-4) * z + F(8.332161e-3)) * z - F(1.6666655e-1)) * z * x + x
    c = ((F(2.4433157e-5) * z - F(1.3887316e-3)) * z + F(4.1666646e-2)) * z * z - F(0.5) * z + F(1)
    sine = np.choose(quadrant, [s, c, -s, -c])
    cosine = np.choose(quadrant, [c, -s, -c, s])
    return sine, cosine


def normal(seed, purpose, prompt_id, image_id, step, shape):
    """float32 standard normals of an address."""
    count = int(np.prod(shape))
    pairs = words(seed, purpose, prompt_id, image_id, step, -(-count // 4)).reshape(-1, 2)
    unit = pairs[:, 0].astype(F) * F(2.3283064e-10) + F(1.1641532e-10)
    radius = np.sqrt(F(-2) * ln(unit))
    sine, cosine = sin_cos_turn(pairs[:, 1])
    return np.stack([radius * cosine, radius * sine], 1).reshape(-1)[:count].reshape(shape)
