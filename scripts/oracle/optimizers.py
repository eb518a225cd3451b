"""Freezes what bitsandbytes, torch, diffusers and prodigyopt compute where the kernels do.

    python -m venv E && E/bin/pip install torch bitsandbytes diffusers prodigyopt numpy safetensors
    E/bin/python scripts/oracle/optimizers.py [reference | prodigy]        both by default

Writes tests/fixtures/kernels/reference.safetensors (everything on the CPU, in fp32):

map.signed, map.unsigned        bitsandbytes' create_dynamic_map
quantise.<s>.x                  numbers; s is signed or unsigned
quantise.<s>.codes, .absmax     bitsandbytes' PyTorch reference (backends/triton/kernels_optim.py): exactly
                                the nearest value, of two equally near ones the lower
quantise.<s>.library            codes of its compiled CPU library, which looks the scaled number up in a
                                table of 65536 entries and so is off near the middle of two values
adamw8.grad [steps, n]; adamw8.p, .m, .v, .m_absmax, .v_absmax [steps + 1, ...]
                                its PyTorch reference of AdamW8bit, states before and after each step; here
                                it is checked that AdamW8bit's own CPU step gives the same p
adamw.grad, .p, .m, .v          torch.optim.AdamW likewise
clip.grad, .norm, .clipped      torch.nn.utils.clip_grad_norm_ over three tensors laid one after another
ema.p, .average                 diffusers' EMAModel after its first step, which copies

and tests/fixtures/kernels/prodigy.safetensors:

grad, lr [steps, ...]; p [steps + 1, n]; d [steps + 1]
                                prodigyopt's Prodigy with decoupled weight decay, bias correction and
                                safeguard_warmup, as diffusers' DreamBooth scripts set it, on two tensors laid
                                one after another, the second of zeros, as a LoRA's; states before and after
                                each step. The first learning rate is 0, as a warm-up's

The CUDA kernel of bitsandbytes (kOptimizerStatic8bit2StateBlockwise) can't run here. By its source it differs
from the reference in the sign that a small negative moment keeps, in ties (the even code), and in decaying
after the update instead of before it.
"""

import os
import sys
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"
# transformers looks for a package called kernels and would find this file.
sys.path.pop(0)

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.backends.triton import kernels_optim as reference
from diffusers.training_utils import EMAModel
from prodigyopt import Prodigy
from safetensors.torch import save_file

OUT = Path(__file__).parents[2] / "tests/fixtures/kernels"
HYPER = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
STEPS = 6
MAPS = {"signed": bnb.create_dynamic_map(True), "unsigned": bnb.create_dynamic_map(False)}


def wide(n):
    """Normals over four decades."""
    return torch.randn(n) * torch.tensor([1.0, 1e-1, 1e-2, 1e-3]).repeat(n // 4 + 1)[:n]


def quantised(signed):
    """Four blocks: random ones, one with the middles between neighbours, one of zeros, a short one that ends tiny."""
    values = MAPS["signed" if signed else "unsigned"]
    middles = (values[:-1] + values[1:]) * 0.5
    x = torch.cat([wide(512), middles, torch.ones(1), torch.zeros(256), wide(37), -torch.logspace(-9, -7, 8)])
    x = x if signed else x.abs()
    codes, absmax = reference._quantize_blockwise_pytorch(x, values, 256)
    library, _ = torch.ops.bitsandbytes.quantize_blockwise(x, values, 256)
    return {"x": x, "codes": codes, "absmax": absmax, "library": library}


def by_reference(name, g, p, *rest):
    reference.optimizer_update_8bit_blockwise_pytorch(p, g, *rest, optimizer_name=name)


def update8(name, grad, p, m, v, m_absmax, v_absmax, step, clip, update):
    beta1, beta2 = HYPER["betas"]
    update(
        name, grad, p, m, v, beta1, beta2, 0.0, 0.0, HYPER["eps"], step, HYPER["lr"], MAPS["signed"],
        MAPS["unsigned"], m_absmax, v_absmax, HYPER["weight_decay"], clip, False,
    )


def adamw8(n=601, clip=0.25):
    p = torch.randn(n) * 0.05
    blocks = -(-n // 256)
    m, v = (torch.full((n,), zero, dtype=torch.uint8) for zero in (127, 0))
    m_absmax, v_absmax = torch.zeros(blocks), torch.zeros(blocks)
    states, grads = [], []
    keep = lambda: states.append([t.clone() for t in (p, m, v, m_absmax, v_absmax)])
    keep()
    for step in range(1, STEPS + 1):
        grad = wide(n) * 1e-2
        grad[::7] = 0
        own = [t.clone() for t in (p, m, v, m_absmax, v_absmax)]
        update8("adam", grad, *own, step, clip, torch.ops.bitsandbytes.optimizer_update_8bit_blockwise)
        update8("adam", grad, p, m, v, m_absmax, v_absmax, step, clip, by_reference)
        assert torch.equal(own[0], p)
        grads.append(grad)
        keep()
    names = ("p", "m", "v", "m_absmax", "v_absmax")
    return {"grad": torch.stack(grads)} | {k: torch.stack(s) for k, s in zip(names, zip(*states))}


def adamw(n=601):
    p = torch.nn.Parameter(torch.randn(n) * 0.05)
    optimizer = torch.optim.AdamW([p], foreach=False, **HYPER)
    zeros = torch.zeros(n)
    states, grads = [(p.detach().clone(), zeros, zeros)], []
    for _ in range(STEPS):
        p.grad = wide(n) * 1e-2
        optimizer.step()
        state = optimizer.state[p]
        grads.append(p.grad)
        states.append([t.detach().clone() for t in (p, state["exp_avg"], state["exp_avg_sq"])])
    return {"grad": torch.stack(grads)} | {k: torch.stack(s) for k, s in zip("pmv", zip(*states))}


def clip():
    parts = [torch.nn.Parameter(torch.zeros(n)) for n in (300, 1, 4000)]
    for part in parts:
        part.grad = wide(part.numel())
    grad = torch.cat([part.grad for part in parts])
    norm = torch.nn.utils.clip_grad_norm_(parts, 1.0)
    return {"grad": grad, "norm": norm.reshape(1), "clipped": torch.cat([part.grad for part in parts])}


def ema(n=601):
    p = torch.nn.Parameter(torch.randn(n))
    # min_decay switches the rise of the decay off, which pa-finetune does not have.
    model = EMAModel([p], decay=0.995, min_decay=0.995)
    model.step([p])
    history, averages = [p.detach().clone()], [model.shadow_params[0].clone()]
    for _ in range(STEPS):
        p.data = torch.randn(n)
        model.step([p])
        history.append(p.detach().clone())
        averages.append(model.shadow_params[0].clone())
    return {"p": torch.stack(history), "average": torch.stack(averages)}


def prodigy(n=96, steps=90):
    torch.manual_seed(29)
    target = torch.randn(n) * 0.1
    parts = [torch.nn.Parameter(torch.randn(n // 2) * 0.05), torch.nn.Parameter(torch.zeros(n // 2))]
    options = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2, "decouple": True}
    optimizer = Prodigy(parts, lr=1.0, use_bias_correction=True, safeguard_warmup=True, **options)
    whole = lambda: torch.cat([part.detach().clone() for part in parts])
    states, estimates, grads, rates = [whole()], [1e-6], [], []
    for step in range(steps):
        # The slope of a bowl, steeper in some directions, and noise.
        grad = (whole() - target) * torch.linspace(0.2, 2.0, n) + wide(n) * 1e-2
        lr = min(step / 4, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for part, own in zip(parts, grad.split(n // 2)):
            part.grad = own.clone()
        optimizer.step()
        grads.append(grad)
        rates.append(lr)
        states.append(whole())
        estimates.append(optimizer.param_groups[0]["d"])
    numbers = {"grad": torch.stack(grads), "p": torch.stack(states)}
    return numbers | {"lr": torch.tensor(rates), "d": torch.tensor(estimates)}


def reference():
    torch.manual_seed(23)
    groups = {"map": MAPS, "quantise.signed": quantised(True), "quantise.unsigned": quantised(False)}
    groups |= {"adamw8": adamw8(), "adamw": adamw(), "clip": clip(), "ema": ema()}
    return {f"{g}.{k}": t for g, group in groups.items() for k, t in group.items()}


def main():
    OUT.mkdir(exist_ok=True)
    for make in (reference, prodigy):
        if make.__name__ in (sys.argv[1:] or (make.__name__,)):
            tensors = {name: tensor.contiguous() for name, tensor in make().items()}
            save_file(tensors, OUT / f"{make.__name__}.safetensors")


if __name__ == "__main__":
    main()
