"""Half-precision bundles beside the fp32 bundle of the same model, rounded after every operation.

ONNX Runtime's CPU provider computes much of an fp16 graph in fp32 and has no bf16 kernels, so it shows
neither what a GPU's half precision does nor whether bf16 graphs are right. The reference evaluator of the
onnx package does: numpy, one operator at a time, each result in its declared type.

    pa-export MODEL -o fp32; pa-export MODEL -o fp16 --dtype fp16; pa-export MODEL -o bf16 --dtype bf16
    python scripts/oracle/half.py fp32 fp16 bf16

Prints, for each part, the largest difference as a share of the largest value, and for the training graph
the cosine of each gradient with the fp32 one; fails where a limit is passed.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

ort.set_default_logger_severity(3)
TYPES = {1: np.float32, 7: np.int64, 10: np.float16, 16: ml_dtypes.bfloat16}
PARTS = ["text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder", "unet_grad"]
# A network of a hundred roundings: a few units in the last place of the largest value (2^-11, 2^-8).
LARGEST = {"fp16": 8 * 2.0**-11, "bf16": 8 * 2.0**-8}
# The limit for fp16; bf16 has an eighth of the digits.
COSINE = {"fp16": 0.999, "bf16": 0.99}


class LayerNormalization(OpRun):
    """As the standard has it with stash_type 1: statistics in fp32, which onnx's own evaluator rounds."""

    def _run(self, x, scale, bias=None, axis=-1, epsilon=1e-5, stash_type=1):
        axes = tuple(range(axis % x.ndim, x.ndim))
        wide = x.astype(np.float32)
        mean = wide.mean(axes, keepdims=True)
        inverse = 1 / np.sqrt(((wide - mean) ** 2).mean(axes, keepdims=True) + np.float32(epsilon))
        y = ((wide - mean) * inverse).astype(x.dtype) * scale
        return (y if bias is None else y + bias), mean, inverse


def inputs(session: ort.InferenceSession, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = {"batch_size": 2, "height": 16, "width": 16, "sequence_length": 7}
    values = {}
    for port in [*session.get_inputs(), *session.get_overridable_initializers()]:
        shape = [sizes.get(d, d) for d in port.shape]
        if port.name == "lora_scale":
            continue
        if port.name == "timestep":
            values[port.name] = np.array([180, 720][: len(shape) * 2] or 500, np.float32)
        elif port.name == "time_ids":
            values[port.name] = np.tile(np.float32([64, 64, 0, 0, 64, 64]), (2, 1))
        elif port.name == "input_ids":
            values[port.name] = rng.integers(1, 60, shape)
        else:
            # B of a young adapter is small: where half precision would lose it.
            size = 1e-4 if "lora_B" in port.name else 0.1 if "lora_A" in port.name else 1
            values[port.name] = (rng.standard_normal(shape) * size).astype(np.float32)
    return values


def evaluate(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    types = {i.name: TYPES[i.type.tensor_type.elem_type] for i in model.graph.input}
    defaults = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.name in types}
    feed = defaults | {name: value.astype(types[name]) for name, value in values.items()}
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model, new_ops=[LayerNormalization]).run(None, feed)


def load(folder: Path) -> onnx.ModelProto:
    """A part's model; checked in a copy, because onnx refuses hard links."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        path = Path(copy) / "model.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        return onnx.load(path)


def compare(dtype: str, part: str, names: list[str], expected: list, found: list) -> bool:
    worst, cosine = 0.0, 1.0
    for name, a, b in zip(names, expected, found):
        a, b = (np.asarray(x).astype(np.float64).ravel() for x in (a, b))
        assert np.isfinite(b).all(), f"{dtype} {part} {name} is not finite"
        if name.startswith("grad."):
            norms = np.linalg.norm(a) * np.linalg.norm(b)
            cosine = min(cosine, a @ b / norms if norms else float(not a.any()))
        else:
            worst = max(worst, np.abs(a - b).max() / np.abs(a).max())
    print(f"{dtype} {part}: {worst:.1e}, cosine {cosine:.6f}", flush=True)
    return worst <= LARGEST[dtype] and cosine >= COSINE[dtype]


def main() -> None:
    single, *halves = map(Path, sys.argv[1:])
    good = True
    for part in PARTS:
        if not (single / part).is_dir():
            continue
        session = ort.InferenceSession(single / part / "model.onnx")
        values = inputs(session, 7)
        expected = session.run(None, values)
        names = [output.name for output in session.get_outputs()]
        for half in halves:
            model = load(half / part)
            assert all(o.name == n for o, n in zip(model.graph.output, names, strict=True))
            dtype = {9: "fp16", 10: "bf16"}[model.ir_version]
            good &= compare(dtype, part, names, expected, evaluate(model, values))
    sys.exit(not good)


if __name__ == "__main__":
    main()
