#!/usr/bin/env python3
"""Freezes UCE's own debiasing for `src/lora/uce.rs`.

    python scripts/oracle/uce.py UCE

UCE is a checkout of rohitgandikota/unified-concept-editing (28c81ed). Its `UCE` runs as it stands on the
tiny SD 1.5 of pipeline.py for two rounds; what its classifier would say of drawn pictures is given. (Over
rounds its targets add up: `v_i_star += ...` changes what the next round starts from.)
Writes tests/fixtures/lora/uce.safetensors: embeddings, the sums of the rounds' directions, edited layers.

Needs: torch, diffusers, transformers, peft, safetensors. Run from the repository's root.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import pipeline

OUT = Path("tests/fixtures/lora/uce.safetensors")
EDITED, TOWARDS, PRESERVED = ["doctor", "an ox"], ["man", "the hat"], ["cow", "a tree and"]
ROUNDS = [np.array([[0.3, -0.3], [-0.45, 0.45]]), np.array([[0.05, -0.05], [0.2, -0.2]])]


def last(pipe, text):
    """The embedding of a caption's last token, as `UCE` takes it."""
    embeds = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[0]
    mask = pipe.tokenizer(text, padding="max_length", max_length=12, truncation=True).attention_mask
    return embeds[0, sum(mask) - 2]


def main(folder):
    torch.set_grad_enabled(False)
    kept = pipeline.FIXTURES
    with tempfile.TemporaryDirectory() as scratch:
        pipeline.FIXTURES = Path(scratch)
        pipe = pipeline.tiny("sd15", pipeline.NETS / "sd15_2").to(torch.float32)
        pipeline.FIXTURES = kept
        # Before `UCE` leaves the pipeline in bfloat16.
        texts = {"edited": EDITED, "towards": TOWARDS, "preserved": PRESERVED}
        keys = {name: torch.stack([last(pipe, text) for text in all]) for name, all in texts.items()}
        names = {"__name__": "uce"}
        source = (Path(folder) / "trainscripts/uce_sd_debias.py").read_text()
        exec(compile(source, "uce_sd_debias.py", "exec"), names)
        rounds = iter(ROUNDS)
        names |= {"device": "cpu", "torch_dtype": torch.float32, "max_iterations": len(ROUNDS)}
        names |= {"desired_ratios": [0.5, 0.5], "get_ratios": lambda **_: next(rounds)}
        scales = (1.0, 2.0, 0.5)  # edit, preserve, lambda
        names["UCE"](pipe, None, EDITED, TOWARDS, PRESERVED, *scales, scratch, "uce", 0.05, 0.1, 1, 1, 1)
        frozen = load_file(Path(scratch) / "uce.safetensors")
    frozen |= keys
    frozen["directions"] = torch.tensor(sum(ROUNDS)).float()
    save_file({name: value.float().contiguous() for name, value in frozen.items()}, OUT)


if __name__ == "__main__":
    main(sys.argv[1])
