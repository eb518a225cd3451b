"""Freezes what torch autograd says about every operation of src/graph.

    python scripts/oracle/graph.py     (torch, safetensors)

Writes tests/fixtures/graph/ops.safetensors. For each case NAME: inputs NAME.x0, NAME.x1, ...; output
NAME.y; seed NAME.dy (random, of y's shape); gradients NAME.dx0, ... of sum(y * dy) for the inputs
that tests/graph/main.rs differentiates, which builds the same computation with the graph builder.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

OUT = Path(__file__).parents[2] / "tests/fixtures/graph/ops.safetensors"


def positive(*shape):
    return torch.rand(*shape) + 0.5


def normal(*shape):
    return torch.randn(*shape)


# name: (inputs, function); inputs named in FROZEN get no gradient.
torch.manual_seed(19)
CASES = {
    "neg": ([normal(2, 3)], lambda x: -x),
    "exp": ([normal(2, 3)], torch.exp),
    "log": ([positive(2, 3)], torch.log),
    "sqrt": ([positive(2, 3)], torch.sqrt),
    "reciprocal": ([positive(2, 3)], torch.reciprocal),
    "sigmoid": ([normal(2, 3)], torch.sigmoid),
    "tanh": ([normal(2, 3)], torch.tanh),
    "relu": ([normal(2, 5)], torch.relu),
    "erf": ([normal(2, 3)], torch.erf),
    "sin": ([normal(2, 3)], torch.sin),
    "cos": ([normal(2, 3)], torch.cos),
    "gelu": ([normal(4, 7)], F.gelu),
    "silu": ([normal(4, 7)], F.silu),
    "quick_gelu": ([normal(4, 7)], lambda x: x * torch.sigmoid(1.702 * x)),
    "add_broadcast": ([normal(2, 3, 4), normal(3, 1)], torch.add),
    "sub_broadcast": ([normal(3, 1), normal(2, 3, 4)], torch.sub),
    "mul_broadcast": ([normal(2, 3, 4), normal(4)], torch.mul),
    "div_broadcast": ([normal(2, 3, 4), positive(2, 1, 4)], torch.div),
    "pow": ([positive(2, 3)], lambda x: x**3),
    "where": ([normal(2, 5), normal(2, 5), normal(2, 5)], lambda c, a, b: torch.where(c > 0, a, b)),
    "matmul_batched": ([normal(2, 3, 4, 5), normal(2, 3, 5, 6)], torch.matmul),
    "matmul_broadcast": ([normal(2, 3, 4), normal(4, 5)], torch.matmul),
    "attention": (
        [normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4)],
        lambda q, k, v: torch.softmax(q @ k.transpose(1, 2) * 0.5, -1) @ v,
    ),
    "linear_2d": ([normal(3, 4), normal(5, 4), normal(5)], F.linear),
    "linear_3d": ([normal(2, 3, 4), normal(5, 4), normal(5)], F.linear),
    "conv_3x3": ([normal(2, 3, 6, 4), normal(5, 3, 3, 3), normal(5)], lambda x, w, b: F.conv2d(x, w, b, padding=1)),
    "conv_1x1": ([normal(2, 3, 6, 4), normal(5, 3, 1, 1), normal(5)], F.conv2d),
    "conv_stride_2": (
        [normal(2, 3, 6, 4), normal(5, 3, 3, 3), normal(5)],
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
    ),
    "conv_asymmetric": (
        [normal(2, 3, 6, 4), normal(5, 3, 3, 3), normal(5)],
        lambda x, w, b: F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, stride=2),
    ),
    "conv_asymmetric_pad_stride_1": (
        [normal(2, 3, 6, 4), normal(5, 3, 3, 3), normal(5)],
        lambda x, w, b: F.conv2d(F.pad(x, (0, 2, 1, 1)), w, b),
    ),
    "conv_grouped": ([normal(2, 4, 6, 4), normal(6, 2, 3, 3), normal(6)], lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2)),
    "softmax_middle": ([normal(2, 4, 3)], lambda x: torch.softmax(x, 1)),
    "layer_norm": ([normal(2, 3, 8) * 2 + 1, normal(8), normal(8)], lambda x, s, b: F.layer_norm(x, (8,), s, b, 1e-5)),
    "group_norm": ([normal(2, 6, 4, 3) * 2 + 1, normal(6), normal(6)], lambda x, s, b: F.group_norm(x, 3, s, b, 1e-5)),
    "reshape": ([normal(2, 6, 4)], lambda x: x.reshape(2, 3, 2, 4)),
    "transpose": ([normal(2, 3, 4, 5)], lambda x: x.permute(0, 3, 1, 2)),
    "concat": ([normal(2, 3, 4), normal(2, 5, 4)], lambda a, b: torch.cat([a, b], 1)),
    "slice": ([normal(2, 7, 3)], lambda x: x[:, 2:5]),
    "chunk_product": ([normal(2, 8)], lambda x: x.chunk(2, 1)[0] * F.gelu(x.chunk(2, 1)[1])),
    "expand": ([normal(2, 1, 3)], lambda x: x.expand(2, 4, 3)),
    "upsample_2x": ([normal(2, 3, 4, 2)], lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "pad": ([normal(2, 3, 4)], lambda x: F.pad(x, (1, 2, 0, 1))),
    "reduce_sum": ([normal(2, 3, 4)], lambda x: x.sum((1,))),
    "reduce_mean_all": ([normal(2, 3, 4)], lambda x: x.mean((1, 2))),
    "reduce_mean_keep": ([normal(2, 3, 4)], lambda x: x.mean((2,), keepdim=True)),
    "average_pool": ([normal(2, 3, 4, 6)], lambda x: F.avg_pool2d(x, 2)),
    "fan_out": ([normal(2, 3)], lambda x: x * torch.sigmoid(x) + x * x),
    # Forward only: nothing is differentiated through these.
    "batch_norm": (
        [normal(2, 3, 4, 4), normal(3), normal(3), normal(3), positive(3)],
        lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, eps=1e-5),
    ),
    "max_pool": ([normal(2, 3, 8, 8)], lambda x: F.max_pool2d(x, 3, 2, 1)),
    "global_average_pool": ([normal(2, 3, 4, 5)], lambda x: x.mean((2, 3), keepdim=True)),
}
FROZEN = {
    "where": [0],
    "linear_2d": [1, 2],
    "linear_3d": [1, 2],
    "conv_3x3": [1, 2],
    "conv_1x1": [1, 2],
    "conv_stride_2": [1, 2],
    "conv_asymmetric": [1, 2],
    "conv_asymmetric_pad_stride_1": [1, 2],
    "conv_grouped": [1, 2],
    "layer_norm": [1, 2],
    "group_norm": [1, 2],
    "batch_norm": range(5),
    "max_pool": [0],
    "global_average_pool": [0],
}


def main():
    torch.manual_seed(20)
    tensors = {}
    for name, (inputs, function) in CASES.items():
        frozen = FROZEN.get(name, [])
        xs = [x.clone().requires_grad_(i not in frozen) for i, x in enumerate(inputs)]
        y = function(*xs)
        dy = torch.randn_like(y)
        wanted = [i for i in range(len(xs)) if i not in frozen]
        grads = torch.autograd.grad((y * dy).sum(), [xs[i] for i in wanted]) if wanted else []
        tensors |= {f"{name}.x{i}": x.detach() for i, x in enumerate(xs)}
        tensors |= {f"{name}.y": y.detach(), f"{name}.dy": dy}
        tensors |= {f"{name}.dx{i}": g for i, g in zip(wanted, grads)}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, OUT)


if __name__ == "__main__":
    main()
