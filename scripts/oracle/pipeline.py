#!/usr/bin/env python3
"""Freezes diffusers' pipelines for `tests/datagen`: whole pictures, from captions to bytes.

    python scripts/oracle/pipeline.py              everything
    python scripts/oracle/pipeline.py demo         what depends on models/demo's weights

Two tiny random models (tests/fixtures/nets/sdxl_3 and sd15_2, with a tokenizer made here) and
models/demo are run by StableDiffusionXLPipeline and StableDiffusionPipeline from the initial latents
that `pa-datagen` addresses (philox.py). Per model, under tests/fixtures/pipeline/NAME: `cases.json`,
a PNG per case (the captions' pictures, one under the other) and `latents.safetensors`. A random LoRA is
written in diffusers' and in kohya's format; both must give the same picture here.

Needs: torch, diffusers, transformers, peft, safetensors, Pillow. Run from the repository's root.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

import philox

FIXTURES = Path("tests/fixtures/pipeline")
NETS = Path("tests/fixtures/nets")
SEED = 7
RANK, ALPHA = 4, 2
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
TEXTS = [
    "",
    "a photo of a doctor",
    "  A PHOTO\tof \n a  Doctor ",
    "the doctor's hat, isn't it? 42nd!",
    "na\u00efve caf\u00e9, \u0130stanbul \u4e2d\u6587 \U0001f600",
    "nai\u0308ve",
    "a!b !! !",
    "<|endoftext|> or <|startoftext|>",
]
START, END = "<|startoftext|>", "<|endoftext|>"


def vocabulary():
    """60 tokens: the letters, within and at the end of a word, and a few merges."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [("o", "r</w>"), ("a", "n"), ("t", "h"), ("an", "d</w>")]
    tokens = [START, "!", *letters, *(f"{x}</w>" for x in letters), *(a + b for a, b in merges), "!</w>", END]
    assert len(tokens) == 60
    return {token: number for number, token in enumerate(tokens)}, merges


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def tokenizer(folder, pad):
    """The files that checkpoints of this kind have: no tokenizer.json."""
    vocab, merges = vocabulary()
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", special | {"model_max_length": 12, "tokenizer_class": "CLIPTokenizer"})
    return transformers.CLIPTokenizer.from_pretrained(folder)


def tiny(name, networks):
    """A tiny random model as a pipeline; writes the files that go beside its networks."""
    folder = FIXTURES / name
    sdxl = name == "sdxl"
    (folder / "scheduler").mkdir(parents=True)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index = {"_class_name": "StableDiffusionXLPipeline" if sdxl else "StableDiffusionPipeline"}
    write_json(folder / "model_index.json", index | ({"force_zeros_for_empty_prompt": True} if sdxl else {}))
    parts = {
        "tokenizer": tokenizer(folder / "tokenizer", END),
        "text_encoder": transformers.CLIPTextModel.from_pretrained(networks / "text_encoder"),
        "unet": diffusers.UNet2DConditionModel.from_pretrained(networks / "unet"),
        "vae": diffusers.AutoencoderKL.from_pretrained(networks / "vae"),
        "scheduler": diffusers.EulerDiscreteScheduler.from_config(SCHEDULER),
    }
    if sdxl:
        parts["tokenizer_2"] = tokenizer(folder / "tokenizer_2", "!")
        encoder = transformers.CLIPTextModelWithProjection.from_pretrained(networks / "text_encoder_2")
        return diffusers.StableDiffusionXLPipeline(**parts, text_encoder_2=encoder, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def lora(pipe, folder, targets):
    """A random LoRA in both formats."""
    generator = torch.Generator().manual_seed(SEED)
    pipe.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets))
    factors = get_peft_model_state_dict(pipe.unet)
    for key in sorted(factors):
        value = factors[key]
        scale = value.shape[1] ** -0.5 if "lora_A" in key else 0.2
        value.copy_(scale * torch.randn(value.shape, generator=generator))
        value.copy_(value.half())
    kohya = {}
    for key, value in factors.items():
        module, factor = key.removesuffix(".weight").rsplit(".", 1)
        module = "lora_unet_" + module.replace(".", "_")
        kohya[f"{module}.{ {'lora_A': 'lora_down', 'lora_B': 'lora_up'}[factor] }.weight"] = value
        kohya[f"{module}.alpha"] = torch.tensor(float(ALPHA))
    config = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.target_modules": targets}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(config)}
    half = lambda state: {k: v.half().contiguous() for k, v in state.items()}
    save_file(half({f"unet.{k}": v for k, v in factors.items()}), folder / "lora.safetensors", metadata)
    save_file(half(kohya), folder / "kohya.safetensors", {"format": "pt"})
    pipe.unet.delete_adapters("default")


def annealed(y, gamma, scale, psi, noise):
    """CADS' embedding: Sadat et al., arXiv 2310.17347, algorithm 1."""
    noised = gamma**0.5 * y + scale * (1 - gamma) ** 0.5 * noise
    rescaled = (noised - noised.mean()) / noised.std() * y.std() + y.mean()
    return psi * rescaled + (1 - psi) * noised


class Annealing:
    """Makes a pipeline anneal: the effect of the guidance scale, or the positive caption's embeddings."""

    def __init__(self, pipe, caption, guidance, annealing):
        self.pipe, self.caption, self.guidance = pipe, caption, guidance
        self.numbers = [float(x) for x in annealing.split(",")]
        self.whole = None

    def gamma(self, step):
        low, high, _, _ = self.numbers
        time = float(self.pipe.scheduler.timesteps[step]) / self.pipe.scheduler.config.num_train_timesteps
        return min(max((high - time) / (high - low), 0.0), 1.0)

    def before(self, step, values):
        """The embeddings that the UNet sees at `step`."""
        if self.guidance == "dynamic-cfg":
            return values
        gamma, (_, _, scale, psi) = self.gamma(step), self.numbers
        keys = [key for key in ("prompt_embeds", "add_text_embeds") if key in values]
        self.whole = self.whole or {key: values[key][1:].double() for key in keys}
        sizes = [self.whole[key].numel() for key in keys]
        address = (SEED, philox.GUIDANCE, philox.caption_id(self.caption), 0, step)
        noises = torch.from_numpy(philox.normal(*address, (sum(sizes),))).double().split(sizes)
        for key, noise in zip(keys, noises):
            y = self.whole[key]
            seen = y if gamma == 1 else annealed(y, gamma, scale, psi, noise.reshape(y.shape))
            values[key] = torch.cat([values[key][:1], seen.to(values[key].dtype)])
        return values

    def after(self, step, prediction):
        """What the pipeline's fixed scale makes a scaled step of."""
        if self.guidance != "dynamic-cfg":
            return prediction
        negative, positive = prediction.chunk(2)
        return torch.cat([negative, negative + self.gamma(step) * (positive - negative)])


def hooked(pipe, annealing):
    """The UNet with `annealing` around it; the pipelines' own callbacks come too late for the first step."""
    unet, steps = pipe.unet.forward, iter(range(10**6))

    def forward(sample, timestep, encoder_hidden_states, added_cond_kwargs=None, **rest):
        step = next(steps)
        values = {"prompt_embeds": encoder_hidden_states}
        if added_cond_kwargs:
            values["add_text_embeds"] = added_cond_kwargs["text_embeds"]
        values = annealing.before(step, values)
        if added_cond_kwargs:
            added_cond_kwargs = added_cond_kwargs | {"text_embeds": values["add_text_embeds"]}
        (prediction,) = unet(sample, timestep, values["prompt_embeds"], added_cond_kwargs=added_cond_kwargs, **rest)
        return (annealing.after(step, prediction),)

    return forward


def draw(
    pipe, model, sampler="euler", cfg=5.0, negative=None, lora=None, lora_scale=1.0, guidance=None, annealing=None
):
    """Bytes [n, H, W, 3] and latents [n, 4, h, w] of the model's captions."""
    kinds = {"euler": diffusers.EulerDiscreteScheduler, "ddim": diffusers.DDIMScheduler}
    pipe.scheduler = kinds[sampler].from_config(pipe.scheduler.config)
    if lora:
        pipe.load_lora_weights(model["folder"] / lora, adapter_name="frozen")
        pipe.set_adapters("frozen", lora_scale)
    height, width = model["height"], model["width"]
    shape = (4, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor)
    final = []
    keep = lambda pipe, step, time, values: final.append(values["latents"].clone()) or values
    pictures = []
    for caption in model["captions"]:
        start = philox.normal(SEED, philox.INIT_LATENT, philox.caption_id(caption), 0, 0, shape)
        final.clear()
        plain = pipe.unet.forward
        if guidance:
            pipe.unet.forward = hooked(pipe, Annealing(pipe, caption, guidance, annealing))
        pictures.append(
            pipe(
                caption,
                negative_prompt=negative,
                num_inference_steps=model["steps"],
                guidance_scale=cfg,
                height=height,
                width=width,
                latents=torch.from_numpy(start)[None],
                output_type="np",
                callback_on_step_end=keep,
                callback_on_step_end_tensor_inputs=["latents"],
            ).images[0]
        )
        pipe.unet.forward = plain
        pictures[-1] = (pictures[-1] * 255).round().astype(np.uint8), final[-1][0]
    if lora:
        pipe.unload_lora_weights()
    images, latents = zip(*pictures)
    return np.stack(images), torch.stack(latents)


def freeze_tokens(pipe, folder):
    """What transformers makes of texts that are easy to get wrong."""
    texts = TEXTS + ["and " * 100]
    tokenizers = {"tokenizer": pipe.tokenizer, "tokenizer_2": getattr(pipe, "tokenizer_2", None)}
    frozen = {}
    for name, tokenizer in tokenizers.items():
        if tokenizer:
            length = tokenizer.model_max_length
            ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
            frozen[name] = [{"text": text, "ids": row} for text, row in zip(texts, ids)]
    (folder / "tokens.json").write_text(json.dumps(frozen) + "\n")


def freeze(pipe, model, cases, networks):
    folder = model["folder"]
    freeze_tokens(pipe, folder)
    latents, index = {}, []
    plain = None
    for name, options in cases.items():
        images, latents[name] = draw(pipe, model, **options)
        flat = images.reshape(-1)
        edge = float(((flat == 0) | (flat == 255)).mean())
        plain = images if plain is None else plain
        moved = int(np.abs(images.astype(int) - plain).max())
        print(f"{folder.name}/{name}: std {flat.std():.1f}, {edge:.0%} at the ends, {moved} from the first case")
        assert flat.std() > 10 and edge < 0.6, "too flat to tell anything"
        Image.fromarray(images.reshape(-1, *images.shape[2:])).save(folder / f"{name}.png", optimize=True)
        index.append({"name": name} | options)
        if "kohya" in name:
            twin = draw(pipe, model, **(options | {"lora": "lora.safetensors"}))[0]
            assert np.array_equal(twin, images), "diffusers reads the two LoRA formats differently"
    save_file(latents, folder / "latents.safetensors")
    weights = {
        str(path.relative_to(networks)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("text_encoder", "text_encoder_2", "unet", "vae")
        for path in sorted((networks / part).glob("*.safetensors"))
    }
    written = {k: v for k, v in model.items() if k != "folder"}
    write_json(folder / "cases.json", written | {"seed": SEED, "weights": weights, "cases": index})


TINY_CASES = {
    "euler": {},
    "ddim": {"sampler": "ddim"},
    "negative": {"negative": "an odd hat!"},
    "unguided": {"cfg": 1.0},
    "cads": {"guidance": "cads", "annealing": "0.3,0.8,0.5,0.75"},
    "dynamic": {"guidance": "dynamic-cfg", "annealing": "0.3,0.8,0,1"},
    "kohya": {"lora": "kohya.safetensors"},
    "scaled": {"lora": "lora.safetensors", "lora_scale": 0.5},
}
DEMO_CASES = {"euler": {}, "ddim": {"sampler": "ddim"}, "kohya": {"lora": "kohya.safetensors"}}


def main(only):
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    targets = ["to_k", "to_q", "to_v", "to_out.0"]
    for name, networks in (("sdxl", NETS / "sdxl_3"), ("sd15", NETS / "sd15_2"), ("demo", Path("models/demo"))):
        if only and name not in only:
            continue
        folder = FIXTURES / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = {"folder": folder}
        if name == "demo":
            pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(networks, add_watermarker=False)
            captions = ["a photo of a doctor", "a photo of a old dark-skinned female baker", "a photo of a house"]
            model |= {"steps": 20, "width": 64, "height": 64, "captions": captions}
            targets = ["attn2.to_v"]
        else:
            pipe = tiny(name, networks)
            # The second is longer than the encoders' 12 tokens, the third has a character they don't know.
            captions = ["Doctor!", "a man and the doctor in the garden with her hat", "ox é"]
            model |= {"steps": 8, "width": 24, "height": 32, "captions": captions}
        pipe = pipe.to(torch.float32)
        pipe.set_progress_bar_config(disable=True)
        lora(pipe, folder, targets)
        freeze(pipe, model, DEMO_CASES if name == "demo" else TINY_CASES, networks)
        for path in folder.glob("*.safetensors"):
            path.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1:])
