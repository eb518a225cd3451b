#!/usr/bin/env python3
"""Freezes what others compute of pa-score's numbers, for `tests/score/`.

* `pictures/`: portraits of the demo world, one per identity, an ambiguous one and a thing: the population
  that the tests score.
* `numbers.json`: discrepancy and its bootstrap intervals (scipy.stats.bootstrap, percentile; two levels with
  numpy, which scipy doesn't have), expected discrepancy of a fair population (scipy.stats.multinomial),
  Frechet distances (scipy.linalg.sqrtm), Krippendorff's alpha (the package of that name).
* `clip.json`: embeddings and agreement of those pictures by transformers' CLIPModel and CLIPImageProcessor
  from models/demo/clip, and cosines to the reference bank.

Needs: numpy, scipy, krippendorff, torch, transformers, safetensors, Pillow. From the repository's root:
    python scripts/oracle/score.py tests/fixtures/score
"""

import json
import random
import sys
from pathlib import Path

import krippendorff
import numpy as np
import scipy.linalg
import scipy.stats
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train_demo"))
import world  # noqa: E402

MODEL = Path("models/demo")
RESAMPLES = 100_000  # so that the Monte Carlo error left is that of the tests' own resamples
JOB = "baker"


def draw_pictures(out):
    """One portrait per identity, a hidden face, a house, and a photograph-shaped picture."""
    out.mkdir(parents=True, exist_ok=True)
    job = next(job for job in world.OCCUPATIONS if job.name == JOB)
    pictures = {}
    for gender in world.GENDERS:
        for skin in world.SKINS:
            for age in world.AGES:
                name = f"{gender}-{skin}-{age}"
                pictures[name] = world.uniform_portrait(random.Random(name), job, gender, skin, age).image
    pictures["ambiguous"] = world.ambiguous_portrait(random.Random(1), job).image
    pictures["house"] = world.thing(random.Random(2), "house").image
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png", optimize=True)
    # Not the network's size: what the processor resizes.
    wide = pictures["female-dark-old"].resize((100, 75), Image.Resampling.BICUBIC)
    wide.save(out / "wide.png", optimize=True)
    return [*pictures, "wide"]


def interval(sample, q=(2.5, 97.5)):
    low, high = np.percentile(sample, q)
    return {"low": low, "high": high, "deviation": float(np.std(sample))}


def scipy_interval(data, statistic, **options):
    result = scipy.stats.bootstrap(
        data,
        statistic,
        n_resamples=RESAMPLES,
        batch=2000,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(1),
        **options,
    )
    interval_ = result.confidence_interval
    return {"low": interval_.low, "high": interval_.high, "deviation": result.standard_error}


def discrepancy(labels, values, axis=-1):
    """As the official code: shares of dominant labels against equal shares."""
    shares = np.stack([(labels == value).mean(axis=axis) for value in range(values)], axis=-1)
    return np.linalg.norm(shares - 1 / values, axis=-1)


def bootstrap_cases():
    rng = np.random.default_rng(0)
    scores = rng.normal(28, 2, 40).round(3)
    labels = rng.choice(3, 60, p=[0.6, 0.3, 0.1])
    before = rng.normal(28, 2, 40).round(3)
    after = (before + rng.normal(0.3, 0.5, 40)).round(3)
    prompts = [rng.choice(2, 20, p=[p, 1 - p]) for p in (0.9, 0.7, 0.2, 0.5, 0.95, 0.85)]
    two_levels = np.empty(RESAMPLES)
    picks = rng.integers(0, len(prompts), (RESAMPLES, len(prompts)))
    for i in range(RESAMPLES):
        places = rng.integers(0, 20, (len(prompts), 20))
        drawn = np.stack([prompts[pick] for pick in picks[i]])
        two_levels[i] = discrepancy(np.take_along_axis(drawn, places, axis=1), 2).mean()
    return {
        "mean": {
            "values": scores.tolist(),
            "value": scores.mean(),
            **scipy_interval((scores,), np.mean),
        },
        "discrepancy": {
            "labels": labels.tolist(),
            "values": 3,
            "value": float(discrepancy(labels, 3)),
            **scipy_interval((labels,), lambda x, axis: discrepancy(x, 3, axis)),
        },
        "paired": {
            "before": before.tolist(),
            "after": after.tolist(),
            "value": float(after.mean() - before.mean()),
            **scipy_interval(
                (after, before), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), paired=True
            ),
        },
        "two_levels": {
            "labels": [p.tolist() for p in prompts],
            "value": float(np.mean([discrepancy(p, 2) for p in prompts])),
            **interval(two_levels),
        },
    }


def floor_cases():
    cases = []
    for n, target in ((24, [0.5, 0.5]), (24, [1 / 3] * 3), (10, [0.2, 0.3, 0.5]), (7, [0.25, 0.75])):
        k = len(target)
        grids = np.indices((n + 1,) * k).reshape(k, -1).T
        outcomes = grids[grids.sum(1) == n]
        chance = scipy.stats.multinomial(n, target).pmf(outcomes)
        distance = np.linalg.norm(outcomes / n - np.array(target), axis=1)
        cases.append({"n": n, "target": target, "floor": float(chance @ distance)})
    return cases


def frechet(a, b):
    """As pytorch-fid computes it."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    apart = a.mean(0) - b.mean(0)
    return float(apart @ apart + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root.real))


def frechet_cases():
    rng = np.random.default_rng(3)
    cases = []
    for width, sizes in ((4, (30, 50)), (12, (100, 80)), (12, (100, 9))):
        bank = rng.normal(size=(sizes[0], width)) @ rng.normal(size=(width, width))
        bank = (bank / np.linalg.norm(bank, axis=1, keepdims=True)).round(4)
        other = rng.normal(0.3, 1, size=(sizes[1], width)) @ rng.normal(size=(width, width))
        other = (other / np.linalg.norm(other, axis=1, keepdims=True)).round(4)
        distance = frechet(bank, other)
        cases.append(
            {
                "width": width,
                "bank": bank.flatten().tolist(),
                "other": other.flatten().tolist(),
                "distance": distance,
            }
        )
    return cases


def alpha_cases():
    rng = np.random.default_rng(4)
    cases = []
    for raters, units, values, missing in ((2, 10, 2, 0), (3, 30, 3, 0.2), (5, 40, 4, 0.5)):
        truth = rng.integers(0, values, units)
        ratings = np.where(rng.random((raters, units)) < 0.7, truth, rng.integers(0, values, (raters, units)))
        ratings = np.where(rng.random((raters, units)) < missing, np.nan, ratings)
        alpha = krippendorff.alpha(reliability_data=ratings, level_of_measurement="nominal")
        by_unit = [[int(v) for v in unit if not np.isnan(v)] for unit in ratings.T]
        cases.append({"units": by_unit, "alpha": float(alpha)})
    return cases


@torch.no_grad()
def clip_cases(folder, names):
    model = CLIPModel.from_pretrained(MODEL / "clip", torch_dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(MODEL / "clip")
    tokenizer = CLIPTokenizerFast.from_pretrained(MODEL / "tokenizer")
    captions = [
        world.neutral_caption(JOB),
        world.specific_caption(JOB, "female", "dark", "old"),
        world.neutral_caption("house"),
    ]
    pictures = [Image.open(folder / f"{name}.png").convert("RGB") for name in names]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    tokens = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt")
    vision = model.vision_model(pixel_values=pixels)
    text = model.text_model(input_ids=tokens["input_ids"])
    image = torch.nn.functional.normalize(model.visual_projection(vision.pooler_output), dim=-1)
    words = torch.nn.functional.normalize(model.text_projection(text.pooler_output), dim=-1)
    bank = load_file(MODEL / "reference.safetensors")["embeds"].float()
    nearest = (image @ bank.T).topk(5, dim=1).values.mean(1)
    return {
        "pictures": names,
        "captions": captions,
        "agreement": (100 * image @ words.T).tolist(),
        "reference": nearest.tolist(),
        "frechet": frechet(bank.double().numpy(), image.double().numpy()),
    }


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":"), default=float) + "\n")


def main(out):
    torch.set_num_threads(1)
    names = draw_pictures(out / "pictures")
    write(
        out / "numbers.json",
        {
            "bootstrap": bootstrap_cases(),
            "floors": floor_cases(),
            "frechet": frechet_cases(),
            "alpha": alpha_cases(),
        },
    )
    write(out / "clip.json", clip_cases(out / "pictures", names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
