"""Writes what was trained as a diffusers folder with fp16 weights, and the files that go with it.

`--part pipeline` writes the SDXL pipeline, `--part rest` the classifier, CLIP, reference bank, axes, prompts
and chain; without `--part` both are written.
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

import card
import networks
import tokenizer
import unet as denoiser
import vae as autoencoder
import world

MODEL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.31.0",
    "feature_extractor": [None, None],
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

AXES = """\
# The axes of the demo world: what captions name, the target population, and how the classifier's outputs map.

[template]
neutral = "a photo of a {prompt}"
specific = "a photo of a {age} {skin}-skinned {gender} {prompt}"
"""

CHAIN = """\
# Classifier chain of the demo world: one network on the whole picture, no face detector.
# The model file is made by `pa-export` from classifier/config.json and classifier/model.safetensors.

name = "demo"
about = "Attribute classifier of the procedural demo world (64x64 drawings); it says nothing about real people."

[[model]]
path = "classifier/model.onnx"
input = "pixel_values"
size = [64, 64]
channels = "rgb"
# (pixel / 127.5 - 1) / 1: what mean 0.5 and std 0.5 on the 0..1 scale amount to.
scale = 0.00784313725490196
mean = [1.0, 1.0, 1.0]
std = [1.0, 1.0, 1.0]
"""

GATE = """
# A gate: whoever wears a closed helmet or turns away is dropped as `ambiguous`, things as `no_person`.
[[model.output]]
output = "visible"
axis = "visible"
labels = {labels}
keep = ["portrait"]
"""

AXIS_VALUES = {"gender": world.GENDERS, "skin": world.SKINS, "age": world.AGES}
# Least probability of the winning value; a picture below it is dropped as `unsure_<axis>`.
MINIMUM = {"gender": 0.6, "skin": 0.5, "age": 0.6}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_pipeline(work_dir, out):
    """model_index.json, scheduler, tokenizers, text encoders, UNet and VAE."""
    encoder, encoder_2, unet, step = denoiser.load(work_dir)
    vae = autoencoder.load(work_dir)
    for name, model in (("text_encoder", encoder), ("text_encoder_2", encoder_2), ("unet", unet), ("vae", vae)):
        model.half().save_pretrained(out / name)
    for name in ("text_encoder", "text_encoder_2"):
        restore_prefix(out / name / "model.safetensors")
    tokenizer.write_both(out)
    write_json(out / "scheduler" / "scheduler_config.json", networks.SCHEDULER)
    write_json(out / "model_index.json", MODEL_INDEX)
    return step


def restore_prefix(path):
    """Names text encoder weights `text_model.…` as every published SDXL does; newer transformers drop it."""
    tensors = load_file(str(path))
    named = {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }
    save_file(named, str(path), metadata={"format": "pt"})


def axes_text():
    text = AXES
    for name, values in AXIS_VALUES.items():
        target = ", ".join(str(round(1 / len(values), 15)) for _ in values)
        labels = ", ".join(f'{value} = "{value}"' for value in values)
        text += (
            f'\n[[axis]]\nname = "{name}"\nvalues = {json.dumps(list(values))}\ntarget = [{target}]\n'
            f'classifier = {{ output = "{name}", labels = {{ {labels} }} }}\n'
        )
    return text


def chain_text():
    text = CHAIN
    for name, values in AXIS_VALUES.items():
        text += (
            f'\n[[model.output]]\noutput = "{name}"\naxis = "{name}"\npost = "softmax"\n'
            f"labels = {json.dumps(list(values))}\nminimum = {MINIMUM[name]}\n"
        )
    return text + GATE.format(labels=json.dumps(list(world.VISIBILITY)))


def write_prompts(out):
    """CSV files with a `Prompt` column, as the prompt sets of the paper have."""
    sets = {
        "train": [job.name for job in world.TRAIN],
        "heldout": [job.name for job in world.HELDOUT],
        # Whole captions: things have no identities to write in, so no template completes them.
        "things": [world.neutral_caption(name) for name in world.THINGS],
    }
    folder = out / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    for name, prompts in sets.items():
        (folder / f"{name}.csv").write_text("\n".join(["Prompt", *prompts]) + "\n")


def write_rest(work_dir, out):
    """Classifier, CLIP, reference bank, axes, chain and prompts."""
    work_dir = Path(work_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "axes.toml").write_text(axes_text())
    (out / "chain.toml").write_text(chain_text())
    write_prompts(out)
    for name in ("classifier", "clip"):
        if (work_dir / name).exists():
            shutil.copytree(work_dir / name, out / name, dirs_exist_ok=True)
    if (work_dir / "reference.safetensors").exists():
        shutil.copy(work_dir / "reference.safetensors", out / "reference.safetensors")
    if (work_dir / "figures.json").exists():
        (out / "README.md").write_text(card.text(work_dir))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--part", choices=["pipeline", "rest"])
    arguments = parser.parse_args()
    out = Path(arguments.out)
    if arguments.part != "rest":
        print("unet step", write_pipeline(arguments.work_dir, out))
    if arguments.part != "pipeline":
        write_rest(arguments.work_dir, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
