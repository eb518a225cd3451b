"""Trains the same run cut into micro-batches and ranks, and compares the LoRAs.

    pa-export models/demo -o BUNDLE && pa-datagen ... --out DATA     (scripts/demo leaves both in out/demo)
    python scripts/bench/cuts.py --bundle out/demo/bundle --data out/demo/train [--bin target/release]
        [--steps 100] [--batch 4] [--ranks 2]

Every cut of a batch gives each sample its factor from the whole batch and adds the gradients in one order.
So runs with the same micro-batch have the same bits for any number of ranks; between micro-batches differs
only what the graph's batch does to the order of its own sums. More than one rank needs mpirun and a pa-finetune
built with --features mpi.

Needs safetensors and numpy.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def train(args, out, micro_batch, ranks):
    command = [args.bin / "pa-finetune", "--model", args.bundle, "--data", args.data, "--out", out]
    command += ["--steps", args.steps, "--batch", args.batch, "--micro-batch", micro_batch, "--threads", args.threads]
    command += ["--lr", 1e-3, "--warmup", 10, "--beta", 400, "--unfiltered"]
    if ranks > 1:
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", ranks, *command, "--mpi"]
    subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)
    tensors = load_file(out / "pytorch_lora_weights.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bin", type=Path, default=Path("target/release"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4, help="pairs: twice as many pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    # Between micro-batches, relative to the largest value of the LoRA.
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    first, failed = None, False
    with tempfile.TemporaryDirectory() as folder:
        for micro_batch in (m for m in (1, 2, 4, 8) if m <= 2 * args.batch):
            alone = None
            for ranks in range(1, args.ranks + 1):
                if 2 * args.batch // micro_batch < ranks:
                    continue
                lora = train(args, Path(folder) / f"{micro_batch}-{ranks}", micro_batch, ranks)
                first = lora if first is None else first
                alone = lora if alone is None else alone
                differs = np.abs(lora - first).max() / np.abs(first).max()
                same = np.array_equal(lora.view(np.uint32), alone.view(np.uint32))
                failed |= not same or differs > args.tolerance
                print(
                    f"micro-batch {micro_batch}, {ranks} ranks: {differs:.1e} from micro-batch 1, "
                    f"{'the bits' if same else 'NOT the bits'} of one rank",
                    flush=True,
                )
    if failed:
        raise SystemExit("not the same LoRA")


if __name__ == "__main__":
    main()
