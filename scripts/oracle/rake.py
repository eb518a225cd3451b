#!/usr/bin/env python3
"""Freezes raked weights for the tests of `src/data/pairs/rake.rs`.

Things with weights and a value on each of three axes; the weights with given shares that have the least
relative entropy to those of before, by the package `ipfn` (iterative proportional fitting) and, apart
from it, by scipy's constrained minimiser, which must agree.

Needs: ipfn, numpy, pandas, scipy. From the repository's root:
    python scripts/oracle/rake.py tests/fixtures/pairs/rake.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from ipfn import ipfn
from scipy.optimize import minimize
from scipy.special import rel_entr

TARGETS = [[0.5, 0.5], [0.5, 0.3, 0.2], [0.2, 0.2, 0.2, 0.2, 0.2]]
THINGS = 40


def by_ipfn(values, weights):
    names = [f"axis{i}" for i in range(len(TARGETS))]
    frame = pd.DataFrame(dict(zip(names, values, strict=True)) | {"total": weights})
    aims = [pd.Series(target, index=pd.Index(range(len(target)), name=name)) for name, target in zip(names, TARGETS)]
    fit = ipfn.ipfn(frame, aims, [[name] for name in names], convergence_rate=1e-13, rate_tolerance=0, max_iteration=5000)
    return fit.iteration()["total"].to_numpy()


def by_entropy(values, weights):
    rows, aims = [], []
    for number, (own, target) in enumerate(zip(values, TARGETS, strict=True)):
        # The first axis says that all is 1, so the last value of the others follows from the rest.
        for value, share in enumerate(target[: len(target) - (number > 0)]):
            rows.append(own == value)
            aims.append(share)
    constraint = {"type": "eq", "fun": lambda x: np.array(rows, float) @ x - aims}
    start = weights
    found = minimize(
        lambda x: rel_entr(x, weights).sum() - x.sum(),
        start,
        jac=lambda x: np.log(np.maximum(x, 1e-12) / weights),
        bounds=[(1e-9, 1)] * len(weights),
        constraints=constraint,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 2000},
    )
    assert found.success, found.message
    return found.x


def main():
    random = np.random.default_rng(0)
    values = np.array([random.integers(0, len(target), THINGS) for target in TARGETS])
    weights = random.uniform(0.2, 3.0, THINGS)
    weights /= weights.sum()
    raked = by_ipfn(values, weights)
    assert np.abs(raked - by_entropy(values, weights)).max() < 1e-5
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    result = {"targets": TARGETS, "values": values.tolist(), "weights": weights.tolist(), "raked": raked.tolist()}
    Path(sys.argv[1]).write_text(json.dumps(result) + "\n")


main()
