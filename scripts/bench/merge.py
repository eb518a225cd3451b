"""Times `pa-export --lora F --merge` on a checkpoint of full size.

    python scripts/bench/synthetic_checkpoint.py out/sdxl --kind sdxl
    python scripts/bench/merge.py out/sdxl [--rank 8] [--command target/release/pa-export] [--threads N]

The adapter has factors for every linear layer of the UNet's transformers, as kohya trains them. The
bundle is removed afterwards: its changed weights are gigabytes.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from commands import measured

ROOT = Path(__file__).resolve().parents[2]


def adapter(unet, rank, path):
    """Writes factors for every linear layer of the transformers, and prints how many there are."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    factors, touched = {}, 0
    for file in sorted(unet.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():
                shape = weights.get_slice(name).get_shape()
                if ".attentions." not in name or not name.endswith(".weight") or len(shape) != 2:
                    continue
                module = "unet." + name.removesuffix(".weight")
                factors[f"{module}.lora_A.weight"] = torch.randn(rank, shape[1], generator=generator) / 64
                factors[f"{module}.lora_B.weight"] = torch.randn(shape[0], rank, generator=generator) / 64
                touched += shape[0] * shape[1]
    save_file(factors, path)
    print(f"rank {rank} on {len(factors) // 2} layers, {touched / 1e6:.0f} M weights")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--command", type=Path, default=ROOT / "target/release/pa-export")
    parser.add_argument("--threads")
    parser.add_argument("--write", type=Path, help="only write the adapter")
    args = parser.parse_args()
    if args.write:
        return adapter(args.checkpoint / "unet", args.rank, args.write)
    with tempfile.TemporaryDirectory(dir=args.checkpoint.parent) as folder:
        folder = Path(folder)
        lora = folder / "lora.safetensors"
        # In a process of its own: what this one takes would count as the command's peak.
        itself = [sys.executable, __file__, args.checkpoint, "--rank", str(args.rank), "--write", lora]
        subprocess.run(itself, check=True)
        command = [args.command, args.checkpoint, "-o", folder / "bundle", "--parts", "unet", "--merge"]
        command += ["--lora", lora] + (["--threads", args.threads] if args.threads else [])
        code, seconds, usage = measured(command)
    print(
        f"{seconds:.1f} s wall, {usage.ru_utime:.1f} s user, {usage.ru_stime:.1f} s system, "
        f"peak {usage.ru_maxrss / 1024:.0f} MiB"
    )
    sys.exit(code)


if __name__ == "__main__":
    main()
