"""Writes the torch files of tests/weights_torch.rs, each beside a safetensors file of the same tensors.

    python scripts/oracle/torch_files.py
"""

import collections
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/torch"


class Evil:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return os.system, ("echo unpickled",)


class State:
    """An object of training, with attributes of its own."""

    def __init__(self, items):
        self.items = items


def lightning(tensors):
    """What Lightning and its like keep beside a state dict of parameters."""
    moments = {i: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 2)} for i in range(2)}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.5), "dirpath": Path("runs"), "k": collections.deque([1])}},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99)}]}],
        "hyper_parameters": State({1, 2, 2**80}),
        "rng": {"numpy": np.random.RandomState(3).get_state(), "value": np.float64(1.5), "dtype": torch.float16},
        "counts": collections.defaultdict(int, a=1),
        "loss": torch.tensor([1 + 2j]),
        "evil": Evil(),
        "state_dict": tensors,
    }


def main():
    OUT.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(6, 4, generator=generator)
    tensors = {
        "a.weight": values[:2],
        "a.half": values.half(),
        "a.bfloat": values.bfloat16(),
        "a.double": values.double(),
        "a.ids": torch.arange(5),
        "a.scalar": torch.tensor(0.5),
        "a.empty": torch.zeros(0, 3),
        # Rows of a larger storage: an offset into it.
        "b.rows": values[2:5],
    }
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, OUT / "state.safetensors")
    state = collections.OrderedDict(tensors)
    state._metadata = collections.OrderedDict(version=1)
    torch.save(state, OUT / "state.pth")
    torch.save({"epoch": 3, "lr": 1e-4, "notes": [1, "x", None, True], "state_dict": dict(tensors)}, OUT / "training.ckpt")
    parameters = {
        name: torch.nn.Parameter(value, requires_grad=value.is_floating_point()) for name, value in tensors.items()
    }
    parameters["a.half"].note = State([1])
    for protocol in [2, 4, 5]:
        torch.save(lightning(parameters), OUT / f"lightning-{protocol}.ckpt", pickle_protocol=protocol)
    torch.save({"epoch": 1, "state_dict": {"a": values, "b": Evil()}}, OUT / "code-inside.ckpt")
    torch.save({"epoch": Evil(), "model": {"a": values}}, OUT / "code-beside.ckpt")
    torch.save({"a": values, "b": Evil()}, OUT / "code.pth")
    torch.save({"a": values.T}, OUT / "transposed.pth")
    torch.save({"a": values}, OUT / "old.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
