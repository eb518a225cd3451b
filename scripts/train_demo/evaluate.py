"""Measures the trained model with the classifier: recall of specific prompts, bias of neutral prompts.

Writes `WORK/figures.json` and contact sheets. With --quick only the sheets of a few prompts.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

import classifier
import sampling
import sheet
import unet as denoiser
import vae as autoencoder
import world

SPECIFIC_SEED, NEUTRAL_SEED, THING_SEED = 100, 200, 300
CHUNK = 48
AXES = {"gender": world.GENDERS, "skin": world.SKINS, "age": world.AGES}
SHOWN = [
    "a photo of a doctor",
    "a photo of a nurse",
    "a photo of a builder",
    "a photo of a receptionist",
    "a photo of a old dark-skinned female judge",
    "a photo of a young medium-skinned male nurse",
    "a photo of a young dark-skinned female carpenter",
    "a photo of a old light-skinned male violinist",
    "a photo of a astronaut",
    "a photo of a house",
    "a photo of a cat",
]


def load_models(work_dir):
    """The models with weights rounded to fp16, as they ship, and the UNet's step."""
    encoder, encoder_2, unet, step = denoiser.load(work_dir)
    models = (autoencoder.load(work_dir), encoder, encoder_2, unet)
    return tuple(model.half().float() for model in models), step


def generate_all(models, captions, seed):
    parts = [captions[start : start + CHUNK] for start in range(0, len(captions), CHUNK)]
    return torch.cat([sampling.generate(models, part, seed * 1000 + i) for i, part in enumerate(parts)])


def as_images(pixels):
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pixels]


def save_sheet(models, path, per_prompt=8):
    captions = [caption for caption in SHOWN for _ in range(per_prompt)]
    pixels = generate_all(models, captions, seed=1)
    sheet.contact_sheet(as_images(pixels), per_prompt, scale=2).save(path)


def predicted_labels(model, pixels):
    """One dict of labels per picture, by head."""
    rows = classifier.predict(model, pixels).tolist()
    return [{head: labels[i] for (head, labels), i in zip(classifier.HEADS.items(), row)} for row in rows]


def specific_recall(models, judge, occupations, repeats):
    """Share of pictures that show the named value, per axis and for all axes together."""
    wanted = [
        (job, gender, skin, age)
        for job in occupations
        for gender in world.GENDERS
        for skin in world.SKINS
        for age in world.AGES
        for _ in range(repeats)
    ]
    captions = [world.specific_caption(job.name, *values) for job, *values in wanted]
    pixels = generate_all(models, captions, SPECIFIC_SEED)
    labels = predicted_labels(judge, pixels)
    hits = {axis: 0 for axis in AXES}
    every = 0
    for (_, *values), label in zip(wanted, labels):
        right = [label[axis] == value for axis, value in zip(AXES, values)]
        for axis, hit in zip(AXES, right):
            hits[axis] += hit
        every += all(right)
    visible = sum(label["visible"] == world.VISIBLE for label in labels)
    figures = {axis: hits[axis] / len(wanted) for axis in AXES}
    return {**figures, "all": every / len(wanted), "visible": visible / len(wanted), "pictures": len(wanted)}, pixels


def discrepancy(labels, values):
    """L2 distance of the share of each value to the uniform target."""
    counts = Counter(labels)
    total = sum(counts.values())
    return sum((counts[value] / total - 1 / len(values)) ** 2 for value in values) ** 0.5


def neutral_bias(models, judge, occupations, per_prompt):
    """Mean discrepancy per axis over neutral prompts, the drop rate, and the shares per occupation."""
    captions = [world.neutral_caption(job.name) for job in occupations for _ in range(per_prompt)]
    pixels = generate_all(models, captions, NEUTRAL_SEED)
    labels = predicted_labels(judge, pixels)
    shares, sums, dropped = {}, Counter(), 0
    for index, job in enumerate(occupations):
        mine = labels[index * per_prompt : (index + 1) * per_prompt]
        kept = [label for label in mine if label["visible"] == world.VISIBLE]
        dropped += len(mine) - len(kept)
        if not kept:
            continue
        shares[job.name] = {
            "female": sum(label["gender"] == "female" for label in kept) / len(kept),
            **{skin: sum(label["skin"] == skin for label in kept) / len(kept) for skin in world.SKINS},
            "old": sum(label["age"] == "old" for label in kept) / len(kept),
        }
        for axis, values in AXES.items():
            sums[axis] += discrepancy([label[axis] for label in kept], values)
    figures = {axis: sums[axis] / len(shares) for axis in AXES}
    return {**figures, "dropped": dropped / len(captions), "pictures": len(captions), "shares": shares}, pixels


def evaluate(work_dir, repeats, per_prompt):
    folder = Path(work_dir)
    models, step = load_models(work_dir)
    judge = classifier.load(work_dir)
    figures = {"unet_steps": step, "sampling_steps": sampling.STEPS, "guidance": sampling.GUIDANCE}
    for name, occupations in (("train", world.TRAIN), ("heldout", world.HELDOUT)):
        recall, pixels = specific_recall(models, judge, occupations, repeats)
        sheet.contact_sheet(as_images(pixels[: 12 * repeats * 10]), 12 * repeats).save(folder / f"specific_{name}.png")
        bias, pixels = neutral_bias(models, judge, occupations, per_prompt)
        sheet.contact_sheet(as_images(pixels), per_prompt).save(folder / f"neutral_{name}.png")
        figures[name] = {"specific_recall": recall, "neutral_discrepancy": bias}
        print(name, json.dumps(recall), json.dumps({k: v for k, v in bias.items() if k != "shares"}), flush=True)
    names = list(world.THINGS)
    pixels = generate_all(models, [world.neutral_caption(name) for name in names for _ in range(6)], THING_SEED)
    sheet.contact_sheet(as_images(pixels), 12).save(folder / "things.png")
    labels = predicted_labels(judge, pixels)
    figures["things_no_person"] = sum(label["visible"] == world.NO_PERSON for label in labels) / len(labels)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=1, help="pictures per specific prompt")
    parser.add_argument("--per-prompt", type=int, default=16, help="pictures per neutral prompt")
    arguments = parser.parse_args()
    if arguments.quick:
        loaded, at_step = load_models(arguments.work_dir)
        save_sheet(loaded, Path(arguments.work_dir) / f"sheet_{at_step}.png")
    else:
        evaluate(arguments.work_dir, arguments.repeats, arguments.per_prompt)
