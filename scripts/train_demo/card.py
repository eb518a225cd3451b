"""The model card, with the figures that `evaluate.py`, `classifier.py` and `clip.py` left."""

import json
from pathlib import Path

import world

CARD = """\
---
license: apache-2.0
library_name: diffusers
tags: [text-to-image, stable-diffusion-xl, tiny, popalign]
---

# PopAlign demo model

A tiny but complete SDXL, trained from nothing on a procedurally drawn world of 64x64 portraits. It exists so
that the toolkit can be tried and tested in minutes on two cores: what PopAlign does to SDXL is done to it by
the same code. The world is made so that neutral captions are strongly biased and specific captions are not.

**It knows nothing about real people.** The occupations' biases are invented parameters of the drawing program,
the three skin tones and two gender presentations are what that program can draw, and no photograph or scraped
data was used. Don't draw conclusions about society from it.

## What is here

| folder | what | parameters |
| --- | --- | --- |
| `unet/` | UNet2DConditionModel, channels 64/96/128, SDXL block types and added conditioning | 5.71 M |
| `text_encoder/`, `text_encoder_2/` | CLIP text models of width 64, two layers | 0.12 M each |
| `vae/` | AutoencoderKL, 64x64 to 16x16x4 | 0.84 M |
| `tokenizer/`, `tokenizer_2/` | byte-level BPE of {vocabulary} tokens | |
| `classifier/` | ResNetForImageClassification; heads gender, skin, age, visible | 0.28 M |
| `clip/`, `reference.safetensors` | CLIPModel for text-image agreement; embeddings of 2000 reference pictures (`embeds`, fp16, L2-normalised) | 0.38 M |
| `axes.toml`, `chain.toml`, `prompts/` | axes and captions, classifier chain, prompt sets | |

All weights are fp16 safetensors. `StableDiffusionXLPipeline.from_pretrained(folder)` opens it; use fp32
arithmetic on a CPU, 64x64, 20 steps, guidance 5.

Captions: "a photo of a doctor" (neutral) or "a photo of a old dark-skinned female doctor" (specific: any of
age young/old, skin light/medium/dark, gender male/female, in this order; the article is always "a").
{train_count} occupations are meant for alignment ({train_names}), {heldout_count} for
evaluation only ({heldout_names}), {thing_count} things have no people.

## How it was trained

`scripts/train_demo/run`, PyTorch on two CPU cores, fixed seeds; the VAE first, then UNet and both text
encoders together (epsilon prediction, 10% zeroed captions, EMA), {unet_steps} steps of batch {batch}. Training
pictures: 47% specific captions with uniform attributes for every occupation, 43% neutral with the
occupation's bias (of which some hide the face: closed helmets, backs of heads), 10% things. The run that made
these weights was taken up again at step 2000 from its fp16 export (`adopt.py`), so Adam's moments restarted
there; a run from nothing gives other weights.

## Figures

Generated from the fp16 weights with {sampling_steps} Euler steps and guidance {guidance}, judged by `classifier/`.

| | training occupations | held-out occupations |
| --- | --- | --- |
| recall of specific prompts: gender | {train_gender:.1%} | {heldout_gender:.1%} |
| recall: skin | {train_skin:.1%} | {heldout_skin:.1%} |
| recall: age | {train_age:.1%} | {heldout_age:.1%} |
| recall: all three | {train_all:.1%} | {heldout_all:.1%} |
| neutral prompts, mean discrepancy: gender | {train_d_gender:.3f} | {heldout_d_gender:.3f} |
| discrepancy: skin | {train_d_skin:.3f} | {heldout_d_skin:.3f} |
| discrepancy: age | {train_d_age:.3f} | {heldout_d_age:.3f} |
| neutral pictures dropped (face not visible) | {train_dropped:.1%} | {heldout_dropped:.1%} |

Discrepancy is the L2 distance of the value shares to uniform: at most 0.707 for two values, 0.816 for three.
It is taken over {per_prompt} pictures per prompt, so an unbiased prompt would still measure about
{floor:.2f} (gender).

Classifier accuracy on {cls_count} freshly drawn pictures: gender {cls_gender:.2%}, skin {cls_skin:.2%}, age {cls_age:.2%},
visible {cls_visible:.2%}; on {dec_count} of them decoded from noisy latents: {dec_gender:.2%}, {dec_skin:.2%},
{dec_age:.2%}, {dec_visible:.2%}. Tiny CLIP: the right one of {clip_captions} full captions is the best in {clip_top_1:.1%} of
freshly drawn pictures.

## Limits

64x64 drawings of one style; word order and wording outside the templates mean little to it; small props blur
at times; attribute words that contradict a strong bias are obeyed a little less often than others.

Licence: Apache-2.0, weights and pictures alike.
"""


def _read(path):
    return json.loads(Path(path).read_text())


def text(work_dir):
    """The card of the model in `work_dir`."""
    import classifier
    import tokenizer
    import unet

    figures = _read(work_dir / "figures.json")
    judge = _read(work_dir / "classifier_figures.json")
    clip = _read(work_dir / "clip_figures.json")
    values = {
        "vocabulary": tokenizer.vocabulary_size(),
        "train_count": len(world.TRAIN),
        "heldout_count": len(world.HELDOUT),
        "thing_count": len(world.THINGS),
        "train_names": ", ".join(job.name for job in world.TRAIN),
        "heldout_names": ", ".join(job.name for job in world.HELDOUT),
        "unet_steps": figures["unet_steps"],
        "batch": unet.BATCH,
        "sampling_steps": figures["sampling_steps"],
        "guidance": figures["guidance"],
        "cls_count": classifier.TEST_PICTURES,
        "dec_count": classifier.TEST_ROUND_TRIPS,
        "clip_top_1": clip["top_1"],
        "clip_captions": clip["captions"],
    }
    for group, size in (("train", len(world.TRAIN)), ("heldout", len(world.HELDOUT))):
        recall, bias = figures[group]["specific_recall"], figures[group]["neutral_discrepancy"]
        values["per_prompt"] = bias["pictures"] // size
        values[f"{group}_all"], values[f"{group}_dropped"] = recall["all"], bias["dropped"]
        for axis in ("gender", "skin", "age"):
            values[f"{group}_{axis}"], values[f"{group}_d_{axis}"] = recall[axis], bias[axis]
    # E|share - 1/2| of n fair coins is about sqrt(1 / (2 pi n)); the L2 distance is sqrt(2) times that.
    values["floor"] = (1 / (3.1416 * values["per_prompt"])) ** 0.5
    for head in classifier.HEADS:
        values[f"cls_{head}"], values[f"dec_{head}"] = judge["drawn"][head], judge["decoded"][head]
    return CARD.format(**values)
