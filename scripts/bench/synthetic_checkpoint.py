"""Writes full-size checkpoints without weights: true names, shapes and headers over holes.

    python scripts/bench/synthetic_checkpoint.py OUT [--kind sdxl|sd15] [--layout folder|single]

The files are sparse, so 7 GB of zeros take a few hundred kilobytes of disk. What an export does to
them (time, memory, new disk, names understood) is what it does to the real ones. The tokenizers are
those of models/demo: their sizes don't matter to an export.
"""

import argparse
import json
import shutil
import struct
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/oracle"))
import original_names  # noqa: E402

CONFIGS = ROOT / "src/bundle/configs"
CLASSES = {
    "unet": UNet2DConditionModel.from_config,
    "vae": AutoencoderKL.from_config,
    "text_encoder": lambda c: CLIPTextModel(CLIPTextConfig(**c)),
    "text_encoder_2": lambda c: CLIPTextModelWithProjection(CLIPTextConfig(**c)),
}


def shapes(kind):
    """{part: {diffusers name: shape}}, from the libraries' own classes."""
    result = {}
    for part, build in CLASSES.items():
        path = CONFIGS / kind / part / "config.json"
        if not path.is_file():
            continue
        with torch.device("meta"):
            model = build(json.loads(path.read_text()))
        names = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        names = {n: s for n, s in names.items() if not n.endswith("position_ids")}
        if part.startswith("text_encoder"):
            names = {rename_text(n): s for n, s in names.items()}
        result[part] = names
        print(part, sum(torch.Size(s).numel() for s in names.values()))
    return result


def rename_text(name):
    """transformers 5 drops the prefix that every published checkpoint has."""
    plain = name.startswith(("text_model.", "text_projection"))
    return name if plain else f"text_model.{name}"


def original(parts):
    """The same tensors under the original names, in one flat dictionary."""
    tensors = {}
    maps = {"unet": original_names.unet(list(parts["unet"]), 2), "vae": original_names.vae(list(parts["vae"]))}
    if "text_encoder_2" in parts:
        embedder = "conditioner.embedders"
        maps["text_encoder"] = original_names.clip(list(parts["text_encoder"]), f"{embedder}.0.transformer")
        maps["text_encoder_2"] = original_names.open_clip(list(parts["text_encoder_2"]), f"{embedder}.1.model")
    else:
        maps["text_encoder"] = original_names.clip(list(parts["text_encoder"]), "cond_stage_model.transformer")
    for part, names in maps.items():
        for name, theirs in names.items():
            shape = list(parts[part][name])
            if theirs.rsplit(".", 1)[-1].startswith("in_proj_"):
                shape[0] *= 3
            if part == "vae" and original_names.is_vae_matrix(name):
                shape += [1, 1]
            tensors[theirs] = shape
    return tensors


def write(path, tensors):
    """A safetensors file of fp16 zeros that takes no disk."""
    header, offset = {}, 0
    for name in sorted(tensors):
        length = 2 * torch.Size(tensors[name]).numel()
        header[name] = {"dtype": "F16", "shape": tensors[name], "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=["sdxl", "sd15"], default="sdxl")
    parser.add_argument("--layout", choices=["folder", "single"], default="folder")
    args = parser.parse_args()
    parts = shapes(args.kind)
    if args.layout == "single":
        write(args.out, original(parts))
        return
    shutil.copytree(CONFIGS / args.kind, args.out, dirs_exist_ok=True)
    for part, tensors in parts.items():
        stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        write(args.out / part / f"{stem}.safetensors", tensors)
    for tokenizer in ["tokenizer", "tokenizer_2"][: 1 + ("text_encoder_2" in parts)]:
        shutil.copytree(ROOT / "models/demo" / tokenizer, args.out / tokenizer, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
