"""Reads the tars of `pa-datagen tar` with the `webdataset` package and holds them to the data set.

    pa-datagen tar DATASET --out TARS [--all]
    python scripts/oracle/webdataset_tars.py TARS DATASET

Every picture that passed the filter (every one, if TARS has the others too) must come once, in order, with
its caption, its row, its latents and the pixels of its file.

Needs an environment of its own:

    python -m venv E && E/bin/pip install webdataset Pillow numpy
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image


def latents(path):
    """The one tensor of a latents file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8 : 8 + length])["latents"]
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4").reshape(entry["shape"])


def main():
    tars, dataset = map(Path, sys.argv[1:3])
    rows = [json.loads(line) for line in (dataset / "metadata.jsonl").read_text().splitlines()]
    paths = sorted(str(path) for path in tars.glob("*.tar"))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    if len(samples) != len(rows):
        rows = [row for row in rows if row["dropped"] is None]
    assert len(samples) == len(rows), f"{len(samples)} samples of {len(rows)} pictures"
    for sample, row in zip(samples, rows):
        assert sample["json"] == row, sample["__key__"]
        assert sample["txt"] == row["prompt"], sample["__key__"]
        expected = latents(dataset / row["latents"]["file"])[row["latents"]["index"]]
        assert np.array_equal(sample["npy"], expected), sample["__key__"]
        if row["file_name"]:
            pixels = np.asarray(Image.open(dataset / row["file_name"]).convert("RGB"))
            extension = row["file_name"].rsplit(".", 1)[1]
            assert np.array_equal(sample[extension], pixels), sample["__key__"]
    print(f"webdataset {webdataset.__version__}: {len(samples)} samples of {len(paths)} tars agree")


if __name__ == "__main__":
    main()
