#!/usr/bin/env python3
"""Draws each training-free method on a model and puts discrepancy, agreement and recall into one table.

    python scripts/bench/baselines.py --model out/demo/bundle --out out/baselines
    python scripts/bench/baselines.py --model out/sdxl --prompts prompts/occupations.csv --lora out/lora \\
        --axes models/faces/axes.toml --chain faces --steps 50 --cfg 5 --neutral 100 --specific 10 --out out/rows

A row is a `pa-datagen` run with that method's options and the same seed, and a `pa-score` of it against
plain guidance: the same noise for the same picture. `--lora` adds the LoRA as a row, `--uce ROUNDS` UCE's
edit after that many rounds of drawing and looking (the bundle must take LoRA of as high a rank as there are
prompts: pa-export --lora-rank), `--only NAMES` draws some rows. Finished rows are kept; a killed script goes
on. Writes table.md and table.json into --out.

What the columns are (pa-score's): discrepancy, the mean over neutral prompts of the distance between an
axis' shares and its target (0 is the target); agreement, CLIP's with the picture's prompt, the neutral one
for neutral pictures, where the model brings a CLIP; recall, the share of identity-specific pictures that
show what their captions name. Methods that leave specific captions alone have plain guidance's recall.
`steps` is UNet rows a picture's step takes, plain guidance's being 2.
"""

import argparse
import json
import subprocess
from pathlib import Path

# Name, options of pa-datagen, rows of the UNet's batch for each picture: of edits with this many axes.
METHODS = {
    "plain": ([], lambda axes: 2),
    "unguided": (["--cfg", "1"], lambda axes: 1),
    "cads": (["--guidance", "cads"], lambda axes: 2),
    "cads, official": (["--guidance", "cads", "--compat", "official"], lambda axes: 2),
    "dynamic-cfg": (["--guidance", "dynamic-cfg"], lambda axes: 2),
    "dynamic-cfg, official": (["--guidance", "dynamic-cfg", "--compat", "official"], lambda axes: 2),
    "interval": (["--cfg-interval", "0.2,0.8"], lambda axes: 1.6),
    "fair-diffusion": (["--guidance", "fair-diffusion"], lambda axes: 2 + 2 * axes),
    "fair-imagen": (["--guidance", "fair-imagen"], lambda axes: 2),
    "resample": (["--guidance", "resample"], lambda axes: 2),
}
LORA = "pytorch_lora_weights.safetensors"


def run(command):
    print("+", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, default=Path("models/demo/prompts/heldout.csv"))
    parser.add_argument("--axes", type=Path, help="[default: the model's]")
    parser.add_argument("--chain", help="[default: the model's]")
    parser.add_argument("--lora")
    parser.add_argument("--neutral", type=int, default=32)
    parser.add_argument("--specific", type=int, default=1)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--uce", type=int, default=0, help="rounds of UCE [default: none]")
    parser.add_argument("--only", help="rows, separated by semicolons")
    parser.add_argument("--bin", type=Path, default=Path("target/release"))
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def drawn(args, name, options, specific=None, seed=None):
    """The row's data set, drawn as the others are."""
    folder = args.out / name.replace(", ", "-")
    own = ["--cfg", args.cfg] if "--cfg" not in options else []
    specific = args.specific if specific is None else specific
    run(
        [args.bin / "pa-datagen", "--model", args.model, "--prompts", args.prompts, "--axes", args.axes]
        + ["--filter", args.chain, "--neutral", args.neutral, "--specific", specific]
        + ["--steps", args.steps, "--seed", seed or args.seed, "--out", folder, *own, *options]
    )
    return folder


def uce(args):
    """The edit after its rounds, each of them drawn under the one before, from noise of its own."""
    sets, lora = [], []
    for number in range(args.uce):
        sets.append(drawn(args, f"uce-round-{number + 1}", lora, specific=0, seed=args.seed + 1 + number))
        data = [word for folder in sets for word in ("--data", folder)]
        run([args.bin / "examples/uce", "--model", args.model, *data, "--out", args.out / "uce-lora"])
        lora = ["--lora", args.out / "uce-lora" / LORA]
    return lora


def scored(args, name, folder, plain):
    out = folder.with_suffix(".json")
    against = ["--against", plain] if folder != plain else []
    run(
        [args.bin / "pa-score", folder, *against, "--model", args.model, "--axes", args.axes]
        + ["--chain", args.chain, "--out", out]
    )
    return json.loads(out.read_text())


def figures(scores):
    """Discrepancy by axis, agreement, recall; each a number and half the width of its interval."""
    value = lambda sided: (sided["scored"]["value"], halved(sided["scored"]))
    found = {axis["axis"]: value(axis["discrepancy"]) for axis in scores["axes"]}
    quality = [value(q["all"]) for q in scores["quality"] if q["metric"] == "clip"]
    recall = scores.get("recall")
    return found, quality[0] if quality else None, value(recall["all"]) if recall else None


def halved(estimate):
    return (estimate["high"] - estimate["low"]) / 2 if "low" in estimate else None


def shown(number):
    if number is None:
        return "-"
    value, half = number
    return f"{value:.3f}" + (f" ± {half:.3f}" if half is not None else "")


def main():
    args = arguments()
    args.axes = args.axes or args.model / "axes.toml"
    args.chain = args.chain or args.model / "chain.toml"
    args.out.mkdir(parents=True, exist_ok=True)
    methods = dict(METHODS)
    if args.lora:
        methods["LoRA"] = (["--lora", args.lora], lambda axes: 2)
    if args.uce:
        methods["uce"] = (uce(args), lambda axes: 2)
    if args.only:
        methods = {name: methods[name] for name in ["plain", *args.only.split(";")]}
    rows, plain = {}, None
    for name, (options, cost) in methods.items():
        folder = drawn(args, name, options)
        plain = plain or folder
        found, agreement, recall = figures(scored(args, name, folder, plain))
        rows[name] = {"discrepancy": found, "agreement": agreement, "recall": recall, "steps": cost(len(found))}
    axes = list(rows["plain"]["discrepancy"])
    lines = ["| method | " + " | ".join(f"{axis} D" for axis in axes) + " | agreement | recall | steps |"]
    lines.append("|" + " --- |" * (len(axes) + 4))
    for name, row in rows.items():
        cells = [shown(row["discrepancy"][axis]) for axis in axes]
        cells += [shown(row["agreement"]), shown(row["recall"]), f"{row['steps']:g}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    (args.out / "table.md").write_text(text)
    (args.out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
