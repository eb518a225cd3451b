"""Writes the fixtures of tests/nets.rs: tiny random models with what diffusers and peft make of them.

    python scripts/oracle/nets.py                         the frozen set, under tests/fixtures/nets
    python scripts/oracle/nets.py --out DIR --seed N --count 8   a fresh set, anywhere else

Each case is a folder in diffusers layout (config.json and fp16 weights per part) with `io.safetensors`
beside it: `<part>/in/<name>` and `<part>/out/<name>`.
"""

import argparse
import shutil
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from safetensors.torch import save_file

import nets_configs
import nets_reference as reference

# Chosen so that together they take every value of every switch in nets_configs.py.
FROZEN = [("sdxl", seed) for seed in (1, 3, 4, 6, 19)] + [("sd15", seed) for seed in (0, 2, 11, 25, 27)]


def case(kind, seed, folder):
    """One whole model: text encoders, UNet with its gradient, VAE."""
    generator = torch.Generator().manual_seed(1000 * seed + len(kind))
    config = nets_configs.draw(kind, seed)
    factor = 2 ** (len(config["unet"]["block_out_channels"]) - 1)
    size = (factor * 4, factor * (3 if seed % 2 else 2))
    parts = {}
    for name in ("text_encoder", "text_encoder_2"):
        if name in config:
            parts[name] = reference.text(config[name], name == "text_encoder_2", folder / name, generator)
    many = config["unet"]["use_linear_projection"] and kind == "sdxl"
    targets = reference.MORE_TARGETS if many else reference.LORA_TARGETS
    parts |= reference.unet(config["unet"], folder / "unet", generator, size, targets)
    parts["vae_encoder"], parts["vae_decoder"] = reference.vae(
        config["vae"], folder / "vae", generator, old_names=seed % 3 == 1, size=(4, 3 + seed % 4)
    )
    write(folder, parts, seed)


def clip(folder):
    """A CLIP model: both towers' projected embeddings."""
    generator = torch.Generator().manual_seed(77)
    config = nets_configs.clip()
    model = reference.randomise(transformers.CLIPModel(transformers.CLIPConfig(**config)), generator)
    reference.save(model, folder, {**config, "architectures": ["CLIPModel"], "model_type": "clip"})
    size = config["vision_config"]["image_size"]
    ids, pixels = reference.token_ids(generator), torch.randn(reference.BATCH, 3, size, size, generator=generator)
    with torch.no_grad():
        image = model.get_image_features(pixel_values=pixels.double()).pooler_output
        words = model.get_text_features(input_ids=ids).pooler_output
    write(
        folder,
        {
            "clip_vision": ({"pixel_values": pixels}, {"image_embeds": image}),
            "clip_text": ({"input_ids": ids}, {"text_embeds": words}),
        },
        77,
    )


def resnet(name, config, folder):
    """A ResNet classifier, its logits split by head where the configuration has heads."""
    generator = torch.Generator().manual_seed(99)
    plain = {k: v for k, v in config.items() if k != "heads"}
    model = reference.randomise(
        transformers.ResNetForImageClassification(transformers.ResNetConfig(**plain)), generator
    )
    stored = {**config, "architectures": ["ResNetForImageClassification"], "model_type": "resnet"}
    reference.save(model, folder, stored)
    pixels = torch.randn(reference.BATCH, 3, 32, 48, generator=generator)
    with torch.no_grad():
        logits = model(pixel_values=pixels.double()).logits
    heads = config.get("heads", {"logits": range(config["num_labels"])})
    split = logits.split([len(labels) for labels in heads.values()], dim=1)
    write(folder, {"classifier": ({"pixel_values": pixels}, dict(zip(heads, split)))}, 99)


def stored(value):
    """As it is written: integers as they are, other numbers in fp32."""
    value = value.contiguous().clone()
    return value.float() if value.is_floating_point() else value


def write(folder, parts, seed):
    """`io.safetensors`: every input and output, with the versions that made them."""
    tensors = {}
    for part, (inputs, outputs) in parts.items():
        tensors |= {f"{part}/in/{name}": stored(value) for name, value in inputs.items()}
        tensors |= {f"{part}/out/{name}": stored(value) for name, value in outputs.items()}
    versions = " ".join(f"{m.__name__} {m.__version__}" for m in (torch, diffusers, transformers, peft))
    # One entry: safetensors writes several in an order that differs from run to run.
    save_file(tensors, folder / "io.safetensors", metadata={"made_by": f"seed {seed}, {versions}"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, help="first seed of a fresh set")
    parser.add_argument("--count", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = arguments.out or Path(__file__).parents[2] / "tests/fixtures/nets"
    cases = FROZEN
    if arguments.seed is not None:
        if arguments.out is None:
            parser.error("--seed needs --out: the frozen set stays what it is")
        seeds = range(arguments.seed, arguments.seed + arguments.count)
        cases = [(("sdxl", "sd15")[s % 2], s) for s in seeds]
    for kind, seed in cases:
        folder = out / f"{kind}_{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        case(kind, seed, folder)
        print(folder.name, flush=True)
    for name, config in nets_configs.resnets().items():
        resnet(name, config, out / name)
    clip(out / "clip")


if __name__ == "__main__":
    main()
