"""Every kind of LoRA file, written by peft and diffusers or named as kohya names it, draws here what it draws there.

    python scripts/oracle/lora_kinds.py [--bin target/release] [--model models/demo] [--keep DIR] [KIND …]

Per kind a random adapter is written, and diffusers draws CAPTIONS with it from the initial latents that
`pa-datagen` addresses (philox.py). Then

* `pa-export --lora F --merge` and `pa-datagen` of that bundle must draw the same (PICTURE);
* for kinds that change the UNet alone, so must `pa-datagen --lora F` of the plain bundle.

Two things are not diffusers' own. Where kohya's alphas differ between modules, diffusers 0.39 (not 0.42) gives
attention layers the commonest one, for its pattern names them otherwise than its layers do; here
each layer gets alpha / r as sd-scripts counts it. And the original code's block names (sgm) count two
layers per block, as SDXL has; the demo model has one, so those kinds are drawn by a random UNet of its
shape with two.

The model is taken in fp32: merging rounds each weight to the type that it is stored in, and that isn't
what is compared. ORT_DYLIB_PATH must name the ONNX Runtime. Needs torch, diffusers, transformers, peft,
safetensors, numpy, Pillow, of versions that agree: transformers 5.24 takes no adapter of peft 0.21; the
environment of optimum_pipeline.py with peft and accelerate does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import peft
import torch
import transformers
from diffusers import StableDiffusionXLPipeline
from diffusers.loaders.lora_base import _pack_dict_with_prefix
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

import philox
from pictures import PICTURE, levels

ROOT = Path(__file__).resolve().parents[2]
# What an adapter must change at least, to tell anything.
MOVED = 16
CAPTIONS = ["a photo of a doctor", "a photo of a house"]
SEED, STEPS, CFG = 5, 12, 5.0
ATTENTION = ["to_k", "to_q", "to_v", "to_out.0"]
UNET = ATTENTION + ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
# Modules of another rank and alpha; PEFT reads them as the ends of names.
RANKS, ALPHAS = {"attn2.to_v": 2, "attn1.to_q": 7}, {"attn2.to_v": 3, "attn1.to_k": 1}
TEXT_RANKS = {"self_attn.v_proj": 3, "mlp.fc1": 2}
PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


def lora(targets, **options):
    return LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": targets} | options))


def randomize(network, seed, size):
    """Gives the factors values; PEFT starts with zeros."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(network.named_parameters()):
        if "lora_A" in name:
            value.data = torch.randn(value.shape, generator=generator) * value.shape[1] ** -0.5
        elif "lora_B" in name:
            value.data = torch.randn(value.shape, generator=generator) * size


def adapted(pipe, part, config, size):
    """Puts a random adapter into a network; returns its factors by module."""
    network = getattr(pipe, part)
    network.add_adapter(config)
    randomize(network, len(part), size)
    return get_peft_model_state_dict(network)


def metadata(**configs):
    """What diffusers keeps in the header beside the factors."""
    return {k: v for part, c in configs.items() for k, v in _pack_dict_with_prefix(c.to_dict(), part).items()}


def as_json(config):
    convert = lambda v: sorted(v) if isinstance(v, set) else str(v)
    return {"format": "pt", "lora_adapter_metadata": json.dumps(config, default=convert, sort_keys=True)}


def in_diffusers(pipe, folder, parts):
    """`pytorch_lora_weights.safetensors` of several networks, each with its configuration."""
    state = {}
    for part, (config, size) in parts.items():
        state |= {f"{part}.{k}": v.contiguous() for k, v in adapted(pipe, part, config, size).items()}
    path = folder / "pytorch_lora_weights.safetensors"
    save_file(state, path, as_json(metadata(**{part: config for part, (config, _) in parts.items()})))
    return path


def sgm(module):
    """The original code's block name of a UNet's module (sgm, openaimodel.py); others as they are."""
    if ".attentions." not in module:
        return module
    place, _, rest = module.partition(".transformer_blocks." if ".transformer_blocks." in module else ".proj_")
    joint = module[len(place) : len(module) - len(rest)]
    words = place.split(".")
    if words[0] == "mid_block":
        start = "middle_block.1"
    else:
        block, layer = int(words[1]), int(words[3])
        start = f"input_blocks.{3 * block + 1 + layer}.1" if words[0] == "down_blocks" else f"output_blocks.{3 * block + layer}.1"
    return start + joint + rest


def kohya_name(part, module):
    if part != "unet" and not module.startswith("text_model."):
        module = f"text_model.{module}"
    return PREFIXES[part] + module.replace(".", "_")


def in_kohya(pipe, folder, parts, block_name=str):
    """A file as sd-scripts writes it: alpha beside every pair, rank as the factors have it."""
    state = {}
    for part, (config, size) in parts.items():
        for key, value in adapted(pipe, part, config, size).items():
            module, factor = key.removesuffix(".weight").rsplit(".", 1)
            name = kohya_name(part, block_name(module) if part == "unet" else module)
            side = {"lora_A": "down", "lora_B": "up"}[factor]
            state[f"{name}.lora_{side}.weight"] = value.contiguous()
            # An alpha of each module's own.
            state[f"{name}.alpha"] = torch.tensor(2.0 + len(name) % 5)
    path = folder / "kohya.safetensors"
    save_file(state, path, {"ss_network_module": "networks.lora"})
    return path


def in_peft(pipe, folder, config):
    """A folder of PEFT's own: adapter_config.json and adapter_model.safetensors."""
    model = peft.get_peft_model(pipe.unet, config)
    randomize(model, 3, 0.1)
    model.save_pretrained(folder / "peft")
    return folder / "peft"


def load(pipe, path):
    """Loads an adapter as its users do."""
    if path.is_dir():
        pipe.unet = peft.PeftModel.from_pretrained(pipe.unet, path).merge_and_unload()
        return
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    state = load_file(path)
    if path.name == "kohya.safetensors":
        for part in PREFIXES:
            for name, layer in getattr(pipe, part).named_modules():
                if hasattr(layer, "lora_A"):
                    (adapter,) = layer.lora_A
                    names = [kohya_name(part, block_name(name)) for block_name in (str, sgm)]
                    (alpha,) = {state[f"{n}.alpha"].item() for n in names if f"{n}.alpha" in state}
                    layer.scaling[adapter] = alpha / layer.r[adapter]


DEEP = ("kohya-sgm", "kohya-ranks", "kohya-text")
UNET_PART = {"unet": (lora(UNET), 0.1)}
TEXT_PARTS = {"text_encoder": (lora(TEXT), 0.1), "text_encoder_2": (lora(TEXT, r=3, rank_pattern=TEXT_RANKS), 0.1)}
MANY = {"unet": (lora(UNET, rank_pattern=RANKS, alpha_pattern=ALPHAS), 0.1)}
KINDS = {
    "diffusers": lambda pipe, folder: in_diffusers(pipe, folder, {"unet": (lora(ATTENTION), 0.1)}),
    "diffusers-all-layers": lambda pipe, folder: in_diffusers(pipe, folder, UNET_PART),
    "diffusers-ranks": lambda pipe, folder: in_diffusers(pipe, folder, MANY),
    "diffusers-text": lambda pipe, folder: in_diffusers(pipe, folder, UNET_PART | TEXT_PARTS),
    "kohya": lambda pipe, folder: in_kohya(pipe, folder, UNET_PART),
    "kohya-sgm": lambda pipe, folder: in_kohya(pipe, folder, UNET_PART, sgm),
    "kohya-ranks": lambda pipe, folder: in_kohya(pipe, folder, MANY, sgm),
    "kohya-text": lambda pipe, folder: in_kohya(pipe, folder, UNET_PART | TEXT_PARTS, sgm),
    "peft": lambda pipe, folder: in_peft(pipe, folder, lora(ATTENTION)),
    "peft-patterns": lambda pipe, folder: in_peft(pipe, folder, lora(UNET, rank_pattern=RANKS, alpha_pattern=ALPHAS)),
    "peft-rslora": lambda pipe, folder: in_peft(
        pipe, folder, lora(UNET, rank_pattern=RANKS, alpha_pattern=ALPHAS, use_rslora=True)
    ),
}


def deep(pipe):
    """A random UNet of two layers per block in place of the model's."""
    torch.manual_seed(4)
    config = dict(pipe.unet.config) | {"layers_per_block": 2}
    pipe.unet = diffusers.UNet2DConditionModel.from_config(config).eval()
    return pipe


def opened(model):
    pipe = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe, shape):
    """[captions, H, W, 3] of 255."""
    pictures = []
    for caption in CAPTIONS:
        latents = philox.normal(SEED, philox.INIT_LATENT, philox.caption_id(caption), 0, 0, shape)
        start = torch.from_numpy(latents)[None]
        picture = pipe(caption, latents=start, num_inference_steps=STEPS, guidance_scale=CFG, output_type="np").images[0]
        pictures.append(levels(picture))
    return np.stack(pictures)


class Ours:
    """Our commands on a model, in a folder of their own."""

    def __init__(self, binaries, model, folder):
        self.binaries, self.model, self.folder = binaries, model, folder
        (folder / "prompts.txt").write_text("".join(f"{caption}\n" for caption in CAPTIONS))

    def run(self, command, *arguments):
        process = subprocess.run([self.binaries / command, *arguments], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr

    def bundle(self, name, *options):
        out = self.folder / f"bundle-{name}"
        parts = "text_encoder,text_encoder_2,unet,vae_decoder"
        targets = ",".join(UNET)
        self.run("pa-export", self.model, "-o", out, "--parts", parts, "--lora-targets", targets, *options)
        return out

    def pictures(self, bundle, name, *options):
        out = self.folder / f"pictures-{name}"
        numbers = ["--neutral", "1", "--steps", str(STEPS), "--cfg", str(CFG), "--seed", str(SEED), "--ep", "cpu"]
        self.run(
            "pa-datagen", "--model", bundle, "--prompts", self.folder / "prompts.txt", "--out", out, *numbers, *options
        )
        rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
        files = {row["prompt"]: out / row["file_name"] for row in rows}
        return np.stack([np.asarray(Image.open(files[c]).convert("RGB"), np.int64) for c in CAPTIONS])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release")
    parser.add_argument("--keep", type=Path, help="keep everything in this folder")
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], metavar="KIND")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    assert "ORT_DYLIB_PATH" in os.environ, "ORT_DYLIB_PATH must name the ONNX Runtime"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        failed = False
        kinds = args.kinds or KINDS
        for name, change in {"plain": lambda pipe: pipe, "deep": deep}.items():
            chosen = [kind for kind in kinds if (kind in DEEP) == (name == "deep")]
            (folder / name).mkdir()
            change(opened(args.model)).save_pretrained(folder / name / "model")
            failed |= compared(Ours(args.bin, folder / name / "model", folder / name), chosen)
    sys.exit(int(failed))


def compared(ours, kinds):
    pipe = opened(ours.model)
    size = pipe.unet.config.sample_size
    shape = (4, size, size)
    plain_bundle = ours.bundle("plain")
    plain = drawn(pipe, shape)
    apart = lambda a, b: int(np.abs(a - b).max())
    failed = apart(plain, ours.pictures(plain_bundle, "plain")) > PICTURE
    for kind in kinds:
        folder = ours.folder / kind
        folder.mkdir()
        path = KINDS[kind](opened(ours.model), folder)
        pipe = opened(ours.model)
        load(pipe, path)
        expected = drawn(pipe, shape)
        ways = {"merged": ours.pictures(ours.bundle(kind, "--lora", path, "--merge"), f"{kind}-merged")}
        if "text" not in kind:
            ways["fed"] = ours.pictures(plain_bundle, kind, "--lora", path)
        moved = apart(expected, plain)
        far = {way: apart(pictures, expected) for way, pictures in ways.items()}
        fine = moved >= MOVED and max(far.values()) <= PICTURE
        failed |= not fine
        text = ", ".join(f"{way} {distance}" for way, distance in far.items())
        print(f"{'ok  ' if fine else 'FAIL'} {kind}: moves pictures by {moved} of 255; apart: {text}", flush=True)
    return failed


if __name__ == "__main__":
    main()
