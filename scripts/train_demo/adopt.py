"""Turns a finished model folder back into training state, so that a lost work folder costs only the time since.

`WORK/vae.pt` and `WORK/classifier/` as they shipped, and a UNet checkpoint at `--step` with the shipped weights
as both the weights and their average. Adam's moments are not kept in a model folder: they start anew, and the
learning rate rises again over `unet.WARMUP` steps.
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file

import unet as denoiser
import vae as autoencoder
from training import save_atomically


def adopt_vae(model_dir, work_dir):
    tensors = load_file(str(model_dir / "vae" / "diffusion_pytorch_model.safetensors"))
    scaling = json.loads((model_dir / "vae" / "config.json").read_text())["scaling_factor"]
    state = {name: tensor.float() for name, tensor in tensors.items()}
    autoencoder.build().load_state_dict(state)  # raises if it is another network
    save_atomically({"model": state, "scaling_factor": scaling}, work_dir / "vae.pt")


def adopt_unet(model_dir, work_dir, step):
    encoders, unet, modules = denoiser.build()
    files = ["text_encoder/model", "text_encoder_2/model", "unet/diffusion_pytorch_model"]
    for module, file in zip([*encoders, unet], files):
        tensors = {name: tensor.float() for name, tensor in load_file(str(model_dir / f"{file}.safetensors")).items()}
        own = module.state_dict()
        # Newer transformers drop the prefix that every published checkpoint has.
        named = {name if name in own else name.removeprefix("text_model."): t for name, t in tensors.items()}
        missing, unexpected = module.load_state_dict(named, strict=False)
        assert not unexpected and all(name.endswith("position_ids") for name in missing), (missing, unexpected)
    trainer = denoiser.trainer_of(modules, work_dir)
    trainer.step = trainer.ema.updates = step
    trainer.notes = {"warm_from": step, "running": 0.03}
    trainer.save()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="model folder, as export.py writes it")
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--step", type=int, required=True, help="step of the checkpoint")
    arguments = parser.parse_args()
    model, work = Path(arguments.model), Path(arguments.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    adopt_vae(model, work)
    shutil.copytree(model / "classifier", work / "classifier", dirs_exist_ok=True)
    adopt_unet(model, work, arguments.step)
