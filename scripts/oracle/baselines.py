#!/usr/bin/env python3
"""Freezes training-free methods and the rest of guidance for `tests/datagen/baselines.rs`.

    python scripts/oracle/baselines.py OFFICIAL FAIRIMAGEN

The tiny SDXL and SD 1.5 of pipeline.py are drawn, from the latents that `pa-datagen` addresses, by:

- diffusers' pipelines: size conditions, guidance rescale, Karras' noise levels, v-prediction with zero
  terminal SNR and trailing spacing, resampled identities (the pipeline is given the caption that says it);
- diffusers' ClassifierFreeGuidance, which says which steps of an interval are guided;
- diffusers' SemanticStableDiffusionPipeline: Fair Diffusion's edits;
- PopAlign's own code (OFFICIAL is a checkout of jacklishufan/PopAlignSDXL, 500358a): its CADS and
  Dynamic-CFG, run as they stand, with the addressed noise in place of torch's;
- FairImagen's own FairPCA (FAIRIMAGEN is a checkout of fuzihaofzh/FairImagen, e2ef1c1) on the pipeline's
  pooled embeddings; the tiny model's token embeddings have another width, which its code leaves alone.

Writes tests/fixtures/pipeline/baselines.json (cases, each with pa-datagen's options) and .safetensors
(the drawn latents).

Needs: torch, diffusers, transformers, peft, safetensors, Pillow, scipy, scikit-learn. Run from the repository's root.
"""

import json
import sys
import tempfile
import tomllib
import typing
from itertools import product
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.deprecated.semantic_stable_diffusion import SemanticStableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as xl
from safetensors.torch import save_file

import fair_imagen
import philox
import pipeline

OUT = pipeline.FIXTURES / "baselines"
AXES = tomllib.loads((pipeline.FIXTURES / "axes.toml").read_text())["axis"]
SEED, STEPS, WIDTH, HEIGHT, CFG = 7, 8, 24, 32, 5.0
CAPTIONS = ["Doctor!", "ox"]
IDENTITY = 11
ZERO_SNR = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def identities(caption, image=0):
    """Per axis the drawn value's place and another one's, as src/datagen/identity.rs draws them."""
    for place, axis in enumerate(AXES):
        words = philox.words(SEED, IDENTITY, philox.caption_id(caption), image, place, 1)[0]
        units = [int(word >> 8) / 2**24 for word in words[:2]]
        shares = list(axis["target"])
        value = pick(shares, units[0])
        shares[value] = 0
        yield axis, value, pick([share / sum(shares) for share in shares], units[1])


def pick(shares, at):
    for place, share in enumerate(shares):
        if share > 0:
            last = place
            if at < share:
                return place
            at -= share
    return last


def text(axis, value):
    return axis["text"][axis["values"][value]]


def start(pipe, caption):
    shape = (4, HEIGHT // pipe.vae_scale_factor, WIDTH // pipe.vae_scale_factor)
    noise = philox.normal(SEED, philox.INIT_LATENT, philox.caption_id(caption), 0, 0, shape)
    return torch.from_numpy(noise)[None]


def common(pipe, caption):
    return {
        "num_inference_steps": STEPS,
        "guidance_scale": CFG,
        "height": HEIGHT,
        "width": WIDTH,
        "latents": start(pipe, caption),
        "output_type": "latent",
    }


def plainly(pipe, caption, **options):
    return pipe(caption, **common(pipe, caption), **options).images[0]


def resampled(pipe, caption):
    said = {axis["name"]: text(axis, value) for axis, value, _ in identities(caption)}
    said = f"{said['age']} {said['skin']} {said['gender']} {caption}"
    return pipe(said, **common(pipe, caption)).images[0]


def in_an_interval(pipe, caption, start, stop):
    """Outside it the guider gives the positive prediction: both halves are that."""
    guider = ClassifierFreeGuidance(guidance_scale=CFG, start=start, stop=stop)
    unet, steps = pipe.unet.forward, iter(range(STEPS))

    def forward(sample, timestep, *rest, **more):
        guider.set_state(next(steps), STEPS, timestep)
        (prediction,) = unet(sample, timestep, *rest, **more)
        negative, positive = prediction.chunk(2)
        return (torch.cat([negative if guider._is_cfg_enabled() else positive, positive]),)

    pipe.unet.forward = forward
    try:
        return plainly(pipe, caption)
    finally:
        pipe.unet.forward = unet


def edited(pipe, caption, warmup, scale, threshold, momentum, beta):
    """Fair Diffusion: one caption to go, one to come, for each axis."""
    semantic = SemanticStableDiffusionPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=pipe.unet,
        scheduler=pipe.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    semantic.set_progress_bar_config(disable=True)
    pairs = [(text(axis, other), text(axis, value)) for axis, value, other in identities(caption)]
    captions = [f"{value} person" for pair in pairs for value in pair]
    return semantic(
        caption,
        **common(pipe, caption),
        editing_prompt=captions,
        reverse_editing_direction=[True, False] * len(pairs),
        edit_warmup_steps=warmup,
        edit_guidance_scale=scale,
        edit_threshold=threshold,
        edit_momentum_scale=momentum,
        edit_mom_beta=beta,
    ).images[0]


def projected(pipe, caption):
    """FairImagen: the positive embeddings projected and moved, axis after axis."""
    encode = lambda text: pipe.encode_prompt(text, do_classifier_free_guidance=False)[::2]
    people = list(product(*[range(len(axis["values"])) for axis in AXES]))
    named = []
    for prompt in CAPTIONS:
        for values in people:
            gender, skin, age = (text(axis, value) for axis, value in zip(AXES, values))
            named.append((values, encode(f"{age} {skin} {gender} {prompt}")[1][0]))
    embeds, pooled = encode(caption)
    for place, (axis, value, _) in enumerate(identities(caption)):
        of = lambda group: [pooled for values, pooled in named if values[place] == group]
        groups = [torch.stack(of(group)) for group in range(len(axis["values"]))]
        fpca = fair_imagen.fitted(__import__("fair_PCA"), groups, 600, False)
        word = philox.words(SEED, IDENTITY, philox.caption_id(caption), 0, place, 1)[0][1]
        sample = int(word) * len(groups[value]) >> 32
        fpca.rand_group = torch.tensor([value])
        fpca.noise = fpca.reaches[value][0, [sample]][None]
        pooled = fpca.transform(pooled)
    options = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    zeros = {f"negative_{name}": torch.zeros_like(value) for name, value in options.items()}
    return pipe(**common(pipe, caption), **options, **zeros).images[0]


def official(folder):
    """The official code's `process`, and its module's names. The file imports what diffusers 0.26's module
    had; the typing names that it had among them are given here."""
    names = {name: value for name, value in vars(xl).items() if not name.startswith("__")}
    names |= {name: getattr(typing, name) for name in ("Any", "Callable", "Dict", "List", "Optional", "Tuple", "Union")}
    source = (Path(folder) / "eval/guidance_scale_hack.py").read_text()
    hack = "StableDiffusionXLPipeline.__call__ = process"
    assert source.count(hack) == 1
    exec(compile(source.replace(hack, ""), "guidance_scale_hack.py", "exec"), names)
    return names


def officially(names, pipe, caption, **options):
    """Its noise is drawn in this order each step: embeddings and pooled, negative before positive."""
    drawn = iter(range(10**6))

    def noise(y):
        step, place = divmod(next(drawn), 4)
        sizes = {"embeds": pipe.sizes[0], "pooled": pipe.sizes[1]}
        address = (SEED, philox.GUIDANCE, philox.caption_id(caption), 0, step)
        length = sum(sizes.values())
        all = philox.normal(*address, (2 * length,))
        # Ours: the positive ones first, in one go.
        at = {0: length, 1: 0, 2: length + sizes["embeds"], 3: sizes["embeds"]}[place]
        return torch.from_numpy(all[at : at + y.numel()]).reshape(y.shape)

    names["randn_like"] = noise
    return names["process"](pipe, caption, **common(pipe, caption), **options).images[0]


def scheduled(pipe, kind, **config):
    """The same networks with another scheduler."""
    scheduler = kind.from_config(pipeline.SCHEDULER | config)
    parts = {name: part for name, part in pipe.components.items() if name != "scheduler"}
    more = {} if "text_encoder_2" in parts else {"requires_safety_checker": False}
    other = type(pipe)(**parts, scheduler=scheduler, **more)
    other.set_progress_bar_config(disable=True)
    return other


def cases(sdxl, sd15, names):
    """Name, model, scheduler's changes, pa-datagen's options, and who draws it."""
    euler, dpm = diffusers.EulerDiscreteScheduler, diffusers.DPMSolverMultistepScheduler
    # As the options have them: width and left first. diffusers has height and top first.
    sizes = {"original_size": (40, 48), "crops_coords_top_left": (4, 6)}
    yield "sizes", "sdxl", {}, "--original-size 48x40 --crop 6,4", lambda c: plainly(sdxl, c, **sizes)
    for name, pipe in (("sdxl", sdxl), ("sd15", sd15)):
        rescaled = lambda c, pipe=pipe: plainly(pipe, c, guidance_rescale=0.7)
        yield "rescaled", name, {}, "--guidance-rescale 0.7", rescaled
        interval = lambda c, pipe=pipe: in_an_interval(pipe, c, 0.3, 0.8)
        yield "interval", name, {}, "--cfg-interval 0.3,0.8", interval
        zero = scheduled(pipe, euler, **ZERO_SNR)
        drawn = lambda c, pipe=zero: plainly(pipe, c, guidance_rescale=0.7)
        yield "zero-snr", name, ZERO_SNR, "--guidance-rescale 0.7", drawn
        zero = scheduled(pipe, dpm, **ZERO_SNR)
        drawn = lambda c, pipe=zero: plainly(pipe, c)
        yield "zero-snr-dpm", name, ZERO_SNR, "--sampler dpmpp_2m", drawn
    karras = scheduled(sdxl, dpm, use_karras_sigmas=True)
    yield "karras", "sdxl", {}, "--sampler dpmpp_2m_karras", lambda c: plainly(karras, c)
    yield "resample", "sdxl", {}, "--guidance resample --axes AXES --specific 0", lambda c: resampled(sdxl, c)
    yield "fair-imagen", "sdxl", {}, "--guidance fair-imagen --axes AXES --specific 0", lambda c: projected(sdxl, c)
    for name, edits in (("fair-diffusion", (2, 4, 0.9, 0.5, 0.6)), ("fair-diffusion-late", (5, 4, 0.95, 0.5, 0.6))):
        options = f"--guidance fair-diffusion --axes AXES --specific 0 --edits {','.join(map(str, edits))}"
        yield name, "sd15", {}, options, lambda c, edits=edits: edited(sd15, c, *edits)
    cads = {"cads": True, "negative_prompt": "an odd hat!", "cads_noise_scale": 0.5, "cads_mixing_factor": 0.75}
    options = "--guidance cads --compat official --annealing 0.6,0.9,0.5,0.75 --negative NEGATIVE"
    yield "official-cads", "sdxl", {}, options, lambda c: officially(names, sdxl, c, **cads)
    options = "--guidance cads --compat official"
    yield "official-cads-zeros", "sdxl", {}, options, lambda c: officially(names, sdxl, c, cads=True)
    dynamic = {"guidance_scale_scheduler": "gamma"}
    options = "--guidance dynamic-cfg --compat official"
    yield "official-dynamic", "sdxl", {}, options, lambda c: officially(names, sdxl, c, **dynamic)


def opened(name, networks):
    """pipeline.py's tiny model; the files that it writes are those of its fixture."""
    kept = pipeline.FIXTURES
    with tempfile.TemporaryDirectory() as scratch:
        pipeline.FIXTURES = Path(scratch)
        pipe = pipeline.tiny(name, pipeline.NETS / networks).to(torch.float32)
        pipeline.FIXTURES = kept
        for path in Path(scratch, name).rglob("*.json"):
            assert path.read_text() == (kept / path.relative_to(scratch)).read_text(), path
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main(folder, fairimagen):
    sys.path.insert(0, str(Path(fairimagen) / "src"))
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    diffusers.utils.logging.set_verbosity_error()
    sdxl, sd15 = opened("sdxl", "sdxl_3"), opened("sd15", "sd15_2")
    embeds, _, pooled, _ = sdxl.encode_prompt("ox", do_classifier_free_guidance=False)
    sdxl.sizes = (embeds.numel(), pooled.numel())
    plain = {name: [plainly(pipe, c) for c in CAPTIONS] for name, pipe in (("sdxl", sdxl), ("sd15", sd15))}
    latents, index = {}, []
    for name, model, scheduler, options, draw in cases(sdxl, sd15, official(folder)):
        found = [draw(caption) for caption in CAPTIONS]
        moved = max(float((a - b).abs().max()) for a, b in zip(found, plain[model]))
        print(f"{model} {name}: {moved:.3f} from plain guidance")
        assert moved > 0.01, "it does nothing"
        latents[f"{model}.{name}"] = torch.stack(found).contiguous()
        index.append({"name": name, "model": model, "scheduler": scheduler, "options": options.split()})
    written = {"captions": CAPTIONS, "width": WIDTH, "height": HEIGHT, "steps": STEPS, "seed": SEED, "cases": index}
    OUT.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    save_file(latents, OUT.with_suffix(".safetensors"))


if __name__ == "__main__":
    main(*sys.argv[1:])
