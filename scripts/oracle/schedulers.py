#!/usr/bin/env python3
"""Freezes diffusers' schedulers for `tests/datagen_samplers.rs`.

For each sampler, prediction type, spacing and number of steps: timesteps, sigmas, the initial noise's
standard deviation, and the whole trajectory of a toy denoiser on a fixed sample. The denoiser is
`output = 0.3 * input + 0.1 * sin(k) - t / 5000` with k the element's number: enough to make any
mistake in scaling or step order visible, and the same in any language.

Needs: torch, diffusers, safetensors, scipy. Run from the repository's root:
    python scripts/oracle/schedulers.py tests/fixtures/schedulers
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from safetensors.torch import save_file

# scheduler/scheduler_config.json of stabilityai/stable-diffusion-xl-base-1.0, plus clip_sample and
# set_alpha_to_one as that file has them.
SDXL = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
CLASSES = {
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}
# By their own names here what diffusers has as options of a class; frozen after the others.
NAMED = {
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "lcm": (LCMScheduler, {}),
}
ELEMENTS = 8


def cases():
    for name in CLASSES:
        for steps in (5, 20, 30, 50):
            yield name, "epsilon", "leading", steps, {}
        yield name, "v_prediction", "leading", 20, {}
        for spacing in ("trailing", "linspace"):
            yield name, "epsilon", spacing, 7, {}
    yield "ddim", "epsilon", "leading", 10, {"clip_sample": True, "set_alpha_to_one": True}
    yield "euler", "epsilon", "leading", 10, {"beta_schedule": "linear"}
    # What the two classes by noise level do with the same file, and the other two leave alone.
    for name in CLASSES:
        for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"):
            yield name, "epsilon", "leading", 20, {key: True}
        yield name, "v_prediction", "trailing", 1, {"use_karras_sigmas": True}
        yield name, "epsilon", "linspace", 9, {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 12.0}
        yield name, "epsilon", "trailing", 20, {"final_sigmas_type": "sigma_min"}
        yield name, "epsilon", "trailing", 8, {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True}
        for spacing in ("leading", "trailing", "linspace"):
            yield name, "v_prediction", spacing, 12, {"rescale_betas_zero_snr": True}
        yield name, "epsilon", "leading", 12, {
            "num_train_timesteps": 40,
            "trained_betas": [0.0005 + 0.0003 * i for i in range(40)],
        }
    for name in ("euler", "euler_a"):
        yield name, "epsilon", "trailing", 12, {"rescale_betas_zero_snr": True}
    for more in (
        {"lower_order_final": False},
        {"euler_at_final": True},
        {"solver_type": "bh2", "algorithm_type": "deis"},
        {"lambda_min_clipped": -5.1},
    ):
        yield "dpmpp_2m", "epsilon", "leading", 20, more | {"final_sigmas_type": "sigma_min"}
    for steps in (5, 20, 50):
        yield "dpmpp_2m_karras", "epsilon", "leading", steps, {}
    yield "dpmpp_2m_karras", "v_prediction", "trailing", 12, {"rescale_betas_zero_snr": True}
    yield "dpmpp_2m_karras", "epsilon", "trailing", 9, {"use_beta_sigmas": True}
    for steps in (1, 4, 7, 50):
        yield "lcm", "epsilon", "leading", steps, {}
    yield "lcm", "v_prediction", "trailing", 4, {"rescale_betas_zero_snr": True}
    yield "lcm", "epsilon", "leading", 6, {"clip_sample": True, "clip_sample_range": 0.5}
    yield "lcm", "epsilon", "leading", 8, {"original_inference_steps": 8, "timestep_scaling": 1.0}


def toy(x, t):
    k = torch.arange(ELEMENTS, dtype=torch.float32)
    return 0.3 * x + 0.1 * torch.sin(k) - float(t) / 5000


def run(name, config, steps):
    kind, more = NAMED[name] if name in NAMED else (CLASSES[name], {})
    # The name overrules what the configuration says of noise levels.
    respaced = {"use_beta_sigmas": False} if more else {}
    scheduler = kind.from_config(config | respaced | more)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(steps)
    start = torch.randn(ELEMENTS, generator=generator)
    x = start * scheduler.init_noise_sigma
    noises, samples = [], []
    for t in scheduler.timesteps:
        out = toy(scheduler.scale_model_input(x, t), t)
        if name in ("euler_a", "lcm"):
            # The scheduler draws its noise from this state: draw it twice, keep it once.
            state = generator.get_state()
            noises.append(torch.randn(ELEMENTS, generator=generator))
            generator.set_state(state)
            x = scheduler.step(out, t, x, generator=generator).prev_sample
        else:
            x = scheduler.step(out, t, x).prev_sample
        samples.append(x)
    tensors = {
        "start": start,
        "timesteps": scheduler.timesteps.to(torch.float32),
        "init_noise_sigma": torch.tensor([float(scheduler.init_noise_sigma)]),
        "samples": torch.stack(samples),
    }
    if hasattr(scheduler, "sigmas"):
        tensors["sigmas"] = scheduler.sigmas.to(torch.float32)
    if noises:
        tensors["noise"] = torch.stack(noises)
    return tensors


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, index = {}, []
    for number, (name, prediction, spacing, steps, more) in enumerate(cases()):
        config = SDXL | {"prediction_type": prediction, "timestep_spacing": spacing} | more
        index.append({"sampler": name, "steps": steps, "config": config})
        for key, value in run(name, config, steps).items():
            tensors[f"{number}.{key}"] = value.contiguous()
    save_file(tensors, folder / "trajectories.safetensors")
    (folder / "cases.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
