"""Times the export of a UNet by torch.onnx, as optimum runs it, beside pa-export's on the same checkpoint.

    python scripts/bench/synthetic_checkpoint.py out/sd15 --kind sd15
    python scripts/bench/torch_export.py out/sd15 [--command target/release/pa-export]

Each runs in a process of its own, whose time, peak memory and new bytes on the disk are printed. Needs
the environment of scripts/oracle/optimum_pipeline.py, as much memory as the fp32 weights take three
times, and as much disk as they take twice.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from commands import measured

ROOT = Path(__file__).resolve().parents[2]


def by_optimum(unet, out):
    from diffusers import UNet2DConditionModel
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager

    model = UNet2DConditionModel.from_pretrained(unet).eval().float()
    # The synthetic checkpoint is all zeros, and equal initializers are written once.
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    # What optimum's pipeline export does before it hands the UNet on.
    model.config.text_encoder_projection_dim = None
    model.config.requires_aesthetics_score = False
    model.config.time_cond_proj_dim = None
    config = TasksManager.get_exporter_config_constructor(
        model=model, exporter="onnx", library_name="diffusers", task="semantic-segmentation", model_type="unet-2d-condition"
    )
    out.mkdir()
    export(model=model, config=config(model.config), output=out / "model.onnx", opset=18)


def disk(folder):
    """Bytes of the files that have no second name elsewhere."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(stat.st_blocks * 512 for stat in files if stat.st_nlink == 1)


def timed(what, command, out):
    code, seconds, usage = measured(command)
    if code:
        sys.exit(f"{what} failed")
    print(
        f"{what}: {seconds:.1f} s, peak {usage.ru_maxrss / 1024:.0f} MiB, "
        f"{disk(out) / 1e6:.0f} MB of new disk",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--command", type=Path, default=ROOT / "target/release/pa-export")
    parser.add_argument("--optimum", type=Path, help="only export the UNet into this folder")
    args = parser.parse_args()
    if args.optimum:
        return by_optimum(args.checkpoint / "unet", args.optimum)
    with tempfile.TemporaryDirectory(dir=args.checkpoint.parent) as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        timed("pa-export", [args.command, args.checkpoint, "-o", ours, "--parts", "unet"], ours)
        shutil.rmtree(ours)
        timed("torch.onnx", [sys.executable, __file__, args.checkpoint, "--optimum", theirs], theirs)


if __name__ == "__main__":
    main()
