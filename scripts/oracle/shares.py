#!/usr/bin/env python3
"""Freezes scipy's and numpy's numbers of shares for `tests/score/shares.rs`.

A population of prompts whose pictures have a label on each of three axes: for each axis the mean over
prompts of the normalised entropy (scipy.stats.entropy over the logarithm of the number of values), of
the parity gap (numpy's ptp) and of the discrepancy (numpy's norm), the discrepancy of all prompts' pictures
together, for all axes the geometric mean of the entropies (scipy.stats.gmean), each with its interval from a
bootstrap on two levels. And between which discrepancies a population is of which some pictures were dropped: the
extremes over every way in which those could show values.

Needs: numpy, scipy. From the repository's root:
    python scripts/oracle/shares.py tests/fixtures/score/shares.json
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import scipy.stats

RESAMPLES = 100_000  # so that the Monte Carlo error left is that of the tests' own resamples
PROMPTS, PICTURES = 6, 20
VALUES = {"gender": 2, "age": 3, "race": 6}


def shares(labels, values):
    """Of the last axis: [..., pictures] to [..., values]."""
    return np.stack([(labels == value).mean(axis=-1) for value in range(values)], axis=-1)


def statistics(labels):
    """Of labels [axes][..., prompts, pictures]: each a mean over prompts."""
    entropies, gaps, means, pooled = [], [], [], []
    for (_, values), own in zip(VALUES.items(), labels, strict=True):
        of_prompts = shares(own, values)
        entropies.append((scipy.stats.entropy(of_prompts, axis=-1) / np.log(values)).mean(axis=-1))
        gaps.append(np.ptp(of_prompts, axis=-1).mean(axis=-1))
        means.append(np.linalg.norm(of_prompts - 1 / values, axis=-1).mean(axis=-1))
        # Prompts have as many pictures each.
        pooled.append(np.linalg.norm(of_prompts.mean(axis=-2) - 1 / values, axis=-1))
    identity = scipy.stats.gmean(np.stack(entropies), axis=0)
    return {
        "entropy": entropies,
        "parity_gap": gaps,
        "discrepancy": means,
        "pooled_discrepancy": pooled,
        "id": [identity],
    }


def bounds():
    """Every outcome of the dropped pictures, one by one."""
    rng = np.random.default_rng(6)
    cases = []
    for values, dropped in ((2, 0), (2, 1), (2, 9), (3, 4), (4, 5), (6, 4)):
        target = rng.dirichlet(np.ones(values)) if values % 2 else np.full(values, 1 / values)
        counts = rng.integers(0, 6, values)
        outcomes = itertools.product(range(values), repeat=dropped)
        shown = np.stack([np.bincount(np.array(o, int), minlength=values) for o in outcomes])
        shares = (counts + shown) / (counts.sum() + dropped)
        found = np.linalg.norm(shares - target, axis=1)
        case = {"target": target.tolist(), "counts": counts.tolist(), "dropped": dropped}
        cases.append({**case, "low": float(found.min()), "high": float(found.max())})
    return cases


def main(out):
    rng = np.random.default_rng(5)
    labels = []
    for values in VALUES.values():
        weights = rng.dirichlet(np.full(values, 1.5), PROMPTS)
        labels.append(np.stack([rng.choice(values, PICTURES, p=p) for p in weights]))
    values = statistics(labels)
    drawn = {name: [[] for _ in numbers] for name, numbers in values.items()}
    for _ in range(100):
        count = RESAMPLES // 100
        prompts = rng.integers(0, PROMPTS, (count, PROMPTS, 1))
        places = rng.integers(0, PICTURES, (count, PROMPTS, PICTURES))
        for name, numbers in statistics([own[prompts, places] for own in labels]).items():
            for own, number in zip(drawn[name], numbers, strict=True):
                own.append(number)
    cases = {}
    for name, numbers in values.items():
        cases[name] = []
        for number, own in zip(numbers, drawn[name], strict=True):
            sample = np.concatenate(own)
            low, high = np.percentile(sample, (2.5, 97.5))
            case = {"value": number, "low": low, "high": high, "deviation": np.std(sample)}
            cases[name].append({key: float(value) for key, value in case.items()})
    axes = [
        {"axis": axis, "values": count, "labels": own.tolist()}
        for (axis, count), own in zip(VALUES.items(), labels, strict=True)
    ]
    out.write_text(json.dumps({"axes": axes, **cases, "bounds": bounds()}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
