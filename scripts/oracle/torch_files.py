"""Writes the torch files of tests/weights_torch.rs, each beside a safetensors file of the same tensors.

    python scripts/oracle/torch_files.py
"""

import collections
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parents[2] / "tests/fixtures/torch"


class Evil:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return os.system, ("echo unpickled",)


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
    torch.save({"a": values, "b": Evil()}, OUT / "code.pth")
    torch.save({"a": values.T}, OUT / "transposed.pth")
    torch.save({"a": values}, OUT / "old.pth", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
