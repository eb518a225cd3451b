"""Opens a bundle with optimum and checks that it draws there what `pa-datagen` drew here.

    pa-export models/demo -o BUNDLE
    pa-datagen --model BUNDLE --prompts FILE --out PICTURES
    python scripts/oracle/optimum_pipeline.py BUNDLE PICTURES

PICTURES is any data set of the bundle without a LoRA. `ORTStableDiffusionXLPipeline` (or
`ORTStableDiffusionPipeline`) is given the initial latents that `pa-datagen` addresses (philox.py); the
graphs' LoRA inputs are left at their defaults. Every picture may differ by what the rounding of a pixel
can turn a network's rounding into (PICTURE).

Needs an environment of its own, for optimum wants older libraries than the other oracles:

    python -m venv E && E/bin/pip install 'optimum-onnx[onnxruntime]' diffusers Pillow
"""

import argparse
import json
import sys
from pathlib import Path

from pictures import PICTURE, differences


def opened(bundle):
    import onnxruntime
    from optimum.onnxruntime import ORTStableDiffusionPipeline, ORTStableDiffusionXLPipeline

    name = json.loads((bundle / "model_index.json").read_text())["_class_name"]
    kind = ORTStableDiffusionXLPipeline if "XL" in name else ORTStableDiffusionPipeline
    # ONNX Runtime warns of every initializer that may be overridden, and the LoRA inputs are hundreds.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    pipe = kind.from_pretrained(bundle, provider="CPUExecutionProvider", session_options=options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    args = parser.parse_args()
    found = []
    for prompt, difference in differences(opened(args.bundle), args.pictures):
        print(f"{prompt!r}: {difference} of 255")
        found.append(difference)
    assert found, "no pictures"
    worst = max(found)
    print(f"{'ok  ' if worst <= PICTURE else 'FAIL'} {len(found)} pictures, at most {worst} levels of 255 apart")
    sys.exit(worst > PICTURE)


if __name__ == "__main__":
    main()
