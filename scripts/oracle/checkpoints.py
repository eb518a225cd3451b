"""Writes the single-file checkpoints of tests/export: models of tests/fixtures/nets under the names of
the original code.

    python scripts/oracle/checkpoints.py

The names come from original_names.py; diffusers' own converter must turn each file back into the
tensors it was made of, or nothing is written.
"""

from pathlib import Path
from types import SimpleNamespace

import json
import torch
from diffusers.loaders import single_file_utils as theirs
from safetensors.torch import load_file, save_file

import original_names

FIXTURES = Path(__file__).resolve().parents[2] / "tests/fixtures"
CASES = {"sdxl": "sdxl_3", "sd15": "sd15_25"}


def parts(folder):
    """{part: {name: tensor}} of a model folder, with the prefix that published text models have."""
    result = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        tensors = load_file(path)
        if path.parent.name.startswith("text_encoder"):
            plain = ("text_model.", "text_projection")
            tensors = {n if n.startswith(plain) else f"text_model.{n}": t for n, t in tensors.items()}
        result[path.parent.name] = tensors
    return result


def single(kind, model, layers):
    """All parts in one dictionary, as the original code names and shapes them."""
    maps = {"unet": original_names.unet(list(model["unet"]), layers), "vae": original_names.vae(list(model["vae"]))}
    if kind == "sdxl":
        maps["text_encoder"] = original_names.clip(model["text_encoder"], "conditioner.embedders.0.transformer")
        maps["text_encoder_2"] = original_names.open_clip(model["text_encoder_2"], "conditioner.embedders.1.model")
    else:
        maps["text_encoder"] = original_names.clip(model["text_encoder"], "cond_stage_model.transformer")
    stacked, tensors = {}, {}
    for part, names in maps.items():
        for name, original in names.items():
            tensor = model[part][name]
            if original.rsplit(".", 1)[-1].startswith("in_proj_"):
                stacked.setdefault(original, {})[name.split(".")[-2]] = tensor
                continue
            if original.endswith(".text_projection"):
                tensor = tensor.T
            if part == "vae" and original_names.is_vae_matrix(name) and tensor.dim() == 2:
                tensor = tensor[:, :, None, None]
            tensors[original] = tensor
    for original, by_name in stacked.items():
        tensors[original] = torch.cat([by_name[n] for n in ("q_proj", "k_proj", "v_proj")])
    # What training leaves behind.
    tensors["alphas_cumprod"] = torch.linspace(1, 0, 4)
    tensors["model_ema.decay"] = torch.tensor(0.9999)
    if kind == "sdxl":
        tensors["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def check(kind, model, tensors, folder):
    """Holds a single file to diffusers' converter."""
    config = {part: json.loads((folder / part / "config.json").read_text()) for part in model}
    back = {
        "unet": theirs.convert_ldm_unet_checkpoint(tensors, config["unet"]),
        "vae": theirs.convert_ldm_vae_checkpoint(tensors, config["vae"]),
    }
    if kind == "sdxl":
        second = SimpleNamespace(config=SimpleNamespace(**config["text_encoder_2"]))
        prefix = "conditioner.embedders.1.model."
        back["text_encoder_2"] = theirs.convert_open_clip_checkpoint(second, tensors, prefix=prefix)
        first = theirs.convert_ldm_clip_checkpoint(tensors, remove_prefix="conditioner.embedders.0.transformer.")
        back["text_encoder"] = first
    else:
        back["text_encoder"] = theirs.convert_ldm_clip_checkpoint(tensors)
    for part, expected in model.items():
        found = back[part]
        old = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
        for name, tensor in expected.items():
            for before, after in old.items():
                name = name.replace(f".{before}.", f".{after}.") if part == "vae" else name
            assert torch.equal(found[name].reshape(tensor.shape), tensor), f"{kind} {part} {name}"
        assert len(found) == len(expected), f"{kind} {part}: {set(found) ^ set(expected)}"


def main():
    (FIXTURES / "checkpoints").mkdir(exist_ok=True)
    for kind, case in CASES.items():
        folder = FIXTURES / "nets" / case
        model = parts(folder)
        model.pop(".", None)
        layers = json.loads((folder / "unet/config.json").read_text())["layers_per_block"]
        tensors = single(kind, model, layers)
        check(kind, model, tensors, folder)
        save_file(tensors, FIXTURES / "checkpoints" / f"{kind}.safetensors")


if __name__ == "__main__":
    main()
