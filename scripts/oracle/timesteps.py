"""The distributions of training time steps that `--timestep-sampling` promises, and diffusers' own draws.

    python scripts/oracle/timesteps.py

Prints the table of `src/align/timesteps.rs`: for each kind of sampling the probability that a time step of
1000 lies below 50, 100, … 950, by scipy from the formulas of Esser et al. (not by drawing). Then draws a million
numbers with `compute_density_for_timestep_sampling` and checks that they are spread so (KS statistic below
its 99.9% point). diffusers' scripts count time steps from the noise down; here u is the share of noise, so
its mean of the logit has the other sign.

Needs torch, diffusers, scipy.
"""

import sys

import numpy as np
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy.optimize import brentq
from scipy.special import logit
from scipy.stats import norm

DRAWS = 1_000_000
KINDS = [
    ("LogitNormal", 0.0, 1.0, 1.29),
    ("LogitNormal", 0.8, 0.6, 1.29),
    ("Mode", 0.0, 1.0, 1.29),
    ("Mode", 0.0, 1.0, -0.8),
]


def below(kind, mean, std, scale, u):
    """P(U < u)."""
    if kind == "LogitNormal":
        return norm.cdf((logit(u) - mean) / std)
    # f falls from 1 at 0 to 0 at 1, so U < u where v is above the point that f maps to u.
    f = lambda v: 1 - v - scale * (np.cos(np.pi * v / 2) ** 2 - 1 + v)
    return 1 - brentq(lambda v: f(v) - u, 0, 1, xtol=1e-14)


passed = True
for kind, mean, std, scale in KINDS:
    points = np.arange(1, 20) / 20
    values = np.array([below(kind, mean, std, scale, u) for u in points])
    print(f"{kind} mean {mean} std {std} scale {scale}")
    print("    [" + ", ".join(f"{v:.6f}" for v in values) + "],")
    name = {"LogitNormal": "logit_normal", "Mode": "mode"}[kind]
    torch.manual_seed(0)
    drawn = compute_density_for_timestep_sampling(name, DRAWS, logit_mean=-mean, logit_std=std, mode_scale=scale)
    u = 1 - drawn.double().numpy()
    found = np.array([(u < point).mean() for point in points])
    distance = np.abs(found - values).max()
    ok = distance < 1.95 / DRAWS**0.5
    passed &= ok
    print(f"    {'ok  ' if ok else 'FAIL'} diffusers' draws are {distance:.1e} away (at most {1.95 / DRAWS**0.5:.1e})")
sys.exit(0 if passed else 1)
