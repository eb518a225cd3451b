"""Prints diffusers' min-SNR weights, which src/align/losses/min_snr.rs is held to.

    python -m venv E && E/bin/pip install torch diffusers
    E/bin/python scripts/oracle/min_snr.py

SDXL's noise schedule by diffusers' DDPMScheduler, the signal-to-noise ratio by its `compute_snr`, and of it the
weights as its train_text_to_image_lora_sdxl.py makes them with --snr_gamma 5: min(snr, 5) / snr for networks that
predict the noise, min(snr, 5) / (snr + 1) for those that predict v. Rows: cumulated alpha, weight for noise, for v.
"""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

GAMMA = 5.0


def main():
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    timesteps = torch.tensor([0, 1, 50, 150, 195, 200, 250, 400, 600, 800, 950, 999])
    snr = compute_snr(schedule, timesteps)
    least = torch.stack([snr, GAMMA * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    rows = zip(schedule.alphas_cumprod[timesteps], least / snr, least / (snr + 1))
    for alpha, epsilon, v in rows:
        print(f"({alpha.item():.9}, {epsilon.item():.9}, {v.item():.9}),")


if __name__ == "__main__":
    main()
