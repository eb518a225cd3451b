#!/usr/bin/env python3
"""Freezes what Hugging Face's `datasets` finds in imagefolders for `src/score/gallery/table/tests.rs`.

Each case is a folder's files (null: a picture); the result is the sorted list of pictures of all splits with
their captions, null for a row without a file, or that `datasets` refuses. `datasets` knows no
captions: here a caption is the first text under Prompt, prompt, text and caption.

Needs: datasets, pillow. From the repository's root:
    python scripts/oracle/imagefolders.py tests/fixtures/score/imagefolders.json
"""

import json
import sys
import tempfile
from pathlib import Path

import datasets
from PIL import Image

CAPTIONS = ["Prompt", "prompt", "text", "caption"]


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(name, text="a doctor", **others):
    return {"file_name": name, "text": text, **others}


def beside(folder, *names, text="a doctor"):
    """A folder with pictures and their table."""
    files = {f"{folder}{name}": None for name in names}
    return files | {f"{folder}metadata.jsonl": lines(*[row(name, f"{text} {name}") for name in names])}


TWO = lines(row("1.png"), row("2.png", "a nurse"))
CASES = {
    "prompt and text": {"1.png": None, "metadata.jsonl": lines(row("1.png", "y", prompt="x"))},
    "a negative seed": {"1.png": None, "metadata.jsonl": lines(row("1.png", seed=-1, image_id=0.5))},
    "a seed of theirs": {"1.png": None, "metadata.jsonl": lines(row("1.png", seed=7, image_id=3))},
    "a kind of theirs": {"1.png": None, "metadata.jsonl": lines(row("1.png", kind="photo"))},
    "a kind like ours": {"1.png": None, "metadata.jsonl": lines(row("1.png", kind="neutral"))},
    "other types": {"1.png": None, "metadata.jsonl": lines(row(
        "1.png", seed="abc", image_id={"a": 1}, kind=3, axes=[1, 2], neutral_prompt=5, prompt=["x"]))},
    "axes of theirs": {"1.png": None, "metadata.jsonl": lines(row("1.png", axes={"x": "left"}))},
    "null": {"1.png": None, "metadata.jsonl": lines(row("1.png", seed=None, prompt=None), row(None))},
    "columns of some rows": {"1.png": None, "2.png": None, "metadata.jsonl": lines(
        {"file_name": "1.png", "prompt": "x"}, row("2.png", "y"))},
    "byte-order mark": {"1.png": None, "2.png": None, "metadata.jsonl": "\ufeff" + TWO},
    "CR": {"1.png": None, "2.png": None, "metadata.jsonl": TWO.replace("\n", "\r")},
    "CR LF": {"1.png": None, "2.png": None, "metadata.jsonl": TWO.replace("\n", "\r\n")},
    "over lines": {"1.png": None, "metadata.jsonl": json.dumps(row("1.png"), indent=1)},
    "CSV": {"1.png": None, "metadata.csv": "\ufefffile_name,seed,kind,text\n1.png,-1,photo,\"a doctor, old\"\n"},
    "CSV, CR": {"1.png": None, "2.png": None, "metadata.csv": "file_name,text\r1.png,x\r2.png,y\r"},
    "CSV, open quote": {"1.png": None, "metadata.csv": "file_name,text\n1.png,\"x\n2.png,y\n3.png,z\n"},
    "CSV, no file_name": {"1.png": None, "metadata.csv": "name,text\n1.png,x\n"},
    "no file_name": {"1.png": None, "metadata.jsonl": lines({"name": "1.png", "text": "x"})},
    "a number for a name": {"1.png": None, "metadata.jsonl": lines(row(7))},
    "image_file_name": {"1.png": None, "metadata.jsonl": lines({"image_file_name": "1.png", "text": "x"})},
    "one split": beside("train/", "1.png", "i/2.png"),
    "splits": beside("train/", "1.png") | beside("test/", "1.png", text="a nurse") | beside("val/", "3.png"),
    "splits in data": beside("data/train/", "1.png") | beside("data/test/", "1.png", text="a nurse"),
    "CSV in splits": {"train/1.png": None, "train/metadata.csv": "file_name,text\n1.png,x\n",
                      "test/1.png": None, "test/metadata.csv": "file_name,text\n1.png,y\n"},
    "words of splits": beside("my-val set/", "1.png") | beside("training_2/", "1.png")
                       | beside("trains/", "1.png"),
    "splits and others": beside("train/", "1.png") | beside("extra/", "1.png"),
    "a split and the root": beside("train/", "1.png") | beside("", "1.png"),
    "no splits": beside("a/", "1.png") | beside("b/c/", "1.png", text="a nurse"),
    "the root and others": beside("", "1.png") | beside("b/", "1.png", text="a nurse"),
    "hidden": beside("", "1.png") | beside(".b/", "1.png") | beside("__c/", "1.png"),
    "in sub-folders": {"s/1.png": None, "s/2.png": None, "s/3.png": None, "metadata.jsonl": lines(
        row("./s/1.png"), row("q/../s/2.png"), row("s\\3.png"))},
    "outside": {"a/1.png": None, "b/metadata.jsonl": lines(row("../a/1.png"))},
    "absolute": {"1.png": None, "metadata.jsonl": lines(row("/1.png"))},
    "without a table in it": {"1.png": None} | beside("b/", "1.png"),
}


def found(root, cache):
    try:
        splits = datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=str(cache))
    except (datasets.exceptions.DatasetGenerationError, ValueError):
        return None
    pictures = []
    for split in splits.values():
        for sample in split.cast_column("image", datasets.Image(decode=False)):
            image = sample["image"] and str(Path(sample["image"]["path"]).relative_to(root))
            texts = [sample.get(name) for name in CAPTIONS]
            pictures.append([image, next(text for text in texts if isinstance(text, str))])
    return sorted(pictures, key=lambda picture: (picture[0] is None, picture))


def frozen(name, files):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        for file, text in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                Image.new("RGB", (2, 2)).save(path)
            else:
                path.write_bytes(text.encode())
        return {"case": name, "files": files, "pictures": found(root, Path(folder) / "cache")}


def main():
    datasets.disable_progress_bars()
    cases = ",\n".join(json.dumps(frozen(name, files)) for name, files in CASES.items())
    Path(sys.argv[1]).write_text(f'{{"datasets": "{datasets.__version__}", "cases": [\n{cases}\n]}}\n')


if __name__ == "__main__":
    main()
