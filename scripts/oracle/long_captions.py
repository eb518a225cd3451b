#!/usr/bin/env python3
"""Freezes what diffusers says that long captions lose, for `tests/datagen/long.rs`.

    python scripts/oracle/long_captions.py

A pipeline's `encode_prompt` cuts a caption at the tokenizer's `model_max_length` and warns with the
decoded rest; `removed` below is its expression (diffusers, pipeline_stable_diffusion.py). Decoding gives
lower case and blanks around marks, so the test compares without blanks and case. Tokenizers of
different vocabularies: models/demo's two (77 tokens) and the tiny SDXL's two (12). Rests with a
character that a tokenizer doesn't know can't be compared and are left out.
Writes tests/fixtures/pipeline/long_captions.json.

Needs: transformers (PyPI). Run from the repository's root.
"""

import json
from pathlib import Path

from transformers import CLIPTokenizer

OUT = Path("tests/fixtures/pipeline/long_captions.json")
FOLDERS = [
    "models/demo/tokenizer",
    "models/demo/tokenizer_2",
    "tests/fixtures/pipeline/sdxl/tokenizer",
    "tests/fixtures/pipeline/sdxl/tokenizer_2",
]
DETAILS = "in a sunlit workshop, soft light, 35mm, highly detailed, sharp focus, film grain, "
TEXTS = [
    "a photo of a doctor",
    "a photo of a doctor " + DETAILS * 6,
    "A PHOTO\tof \n a  Doctor,  " + "Really " * 70 + "Old Woman",
    "and " * 75,
    "and " * 75 + "an",
    "and " * 74 + "unforgettable woman",
    "the man and the doctor and the cook in the garden",
    "isn't it the doctor's hat? 42nd! 2024 (x:1.2) [y] -- *z*",
    "na\u00efve caf\u00e9 of the \u0130stanbul painters, " + "tr\u00e8s beau, " * 30 + "fin",
]


def removed(tokenizer, text):
    """diffusers' removed text; none where it wouldn't warn."""
    length = tokenizer.model_max_length
    cut = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
    whole = tokenizer(text, padding="longest").input_ids
    if len(whole) < len(cut) or whole == cut:
        return ""
    return tokenizer.batch_decode([whole[length - 1 : -1]])[0]


def main():
    frozen = {}
    for folder in FOLDERS:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        cases = [{"text": text, "removed": removed(tokenizer, text)} for text in TEXTS]
        cases = [case for case in cases if tokenizer.unk_token not in case["removed"]]
        frozen[folder] = {"length": tokenizer.model_max_length, "cases": cases}
    OUT.write_text(json.dumps(frozen, indent=1) + "\n")


main()
