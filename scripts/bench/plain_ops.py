"""How the `plain` target's operators are best written for ONNX Runtime's CPU provider.

    python scripts/bench/plain_ops.py [THREADS]

Times formulations of one function at sizes of SDXL's and the demo's UNets (median of many runs, fp32) and
how far each is from float64. The outcome is in ARCHITECTURE.md, "Decisions worth knowing".
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ort.set_default_logger_severity(3)
THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
SECONDS = 1.0


def session(nodes, shape, constants, opset):
    info = helper.make_tensor_value_info
    initializers = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, None)], initializers
    )
    ir = {18: 8, 20: 9, 21: 10, 22: 10}[opset]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(name, nodes, x, constants, expected, opset=20):
    run = session(nodes, x.shape, constants, opset)
    y = run.run(None, {"x": x})[0]
    error = np.abs(y - expected).max() / np.abs(expected).max()
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(times) < 5:
        before = time.perf_counter()
        run.run(None, {"x": x})
        times.append(time.perf_counter() - before)
    print(f"  {name:34} opset {opset}: {1e3 * statistics.median(times):8.3f} ms, error {error:.0e}", flush=True)


def node(op, inputs, output, **attrs):
    return helper.make_node(op, inputs, [output], **attrs)


def small_ops(x):
    """Nodes that make "n" of `x`: less its mean over `axes`, divided by its deviation there."""
    return [
        node("ReduceMean", [x, "axes"], "m"),
        node("Sub", [x, "m"], "d"),
        node("Mul", ["d", "d"], "q"),
        node("ReduceMean", ["q", "axes"], "v"),
        node("Add", ["v", "e"], "ve"),
        node("Sqrt", ["ve"], "sd"),
        node("Div", ["d", "sd"], "n"),
    ]


def group_norm(shape, groups, epsilon=np.float32(1e-5)):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    b, c, h, w = shape
    scale, bias = (np.random.default_rng(s).standard_normal(c).astype(np.float32) for s in (1, 2))
    wide = x.astype(np.float64).reshape(b, groups, -1)
    wide = (wide - wide.mean(2, keepdims=True)) / np.sqrt(wide.var(2, keepdims=True) + epsilon)
    expected = wide.reshape(shape) * scale[:, None, None] + bias[:, None, None]
    constants = {
        "split": np.array([0, groups, -1]),
        "whole": np.array(shape),
        "scale": scale[:, None, None],
        "bias": bias[:, None, None],
    }
    affine = [
        node("Reshape", ["n", "whole"], "r"),
        node("Mul", ["r", "scale"], "s"),
        node("Add", ["s", "bias"], "y"),
    ]
    split = [node("Reshape", ["x", "split"], "g")]
    print(f"group norm of {shape}, {groups} groups")
    rest = c // groups * h * w
    layer = [node("LayerNormalization", ["g", "ones"], "n", axis=2, epsilon=epsilon)]
    ones = constants | {"ones": np.ones(rest, np.float32)}
    measure("LayerNormalization (ours)", split + layer + affine, x, ones, expected)
    per_group = {"one": np.ones(groups, np.float32), "zero": np.zeros(groups, np.float32)}
    instance = [node("InstanceNormalization", ["g", "one", "zero"], "n", epsilon=epsilon)]
    measure("InstanceNormalization", split + instance + affine, x, constants | per_group, expected)
    parts = constants | {"axes": np.array([2]), "e": np.array(epsilon)}
    measure("ReduceMean, Sub, Mul … Div", split + small_ops("g") + affine, x, parts, expected)
    native = [node("GroupNormalization", ["x", "scale", "bias"], "y", num_groups=groups, epsilon=epsilon)]
    flat = {"scale": scale, "bias": bias}
    measure("GroupNormalization", native, x, flat, expected, opset=21)


def gelu(shape):
    from math import erf, sqrt

    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wide = x.astype(np.float64)
    expected = 0.5 * wide * (1 + np.vectorize(erf)(wide / sqrt(2)))
    print(f"exact GELU of {shape}")
    measure("Gelu (ours)", [node("Gelu", ["x"], "y")], x, {}, expected)
    measure("Gelu (ours, of bf16 graphs)", [node("Gelu", ["x"], "y")], x, {}, expected, opset=22)
    constants = {n: np.array(v, np.float32) for n, v in [("r", 2**0.5), ("one", 1), ("half", 0.5)]}
    ops = [
        node("Div", ["x", "r"], "d"),
        node("Erf", ["d"], "e"),
        node("Add", ["e", "one"], "p"),
        node("Mul", ["x", "p"], "m"),
        node("Mul", ["m", "half"], "y"),
    ]
    # ONNX Runtime recognises this order and fuses it; another order, as a gradient has it, it doesn't.
    measure("Div, Erf, Add, Mul, Mul", ops, x, constants, expected)
    measure("Div, Erf, Add, Mul, Mul", ops, x, constants, expected, opset=18)
    other = [*ops[:2], node("Mul", ["e", "half"], "h"), node("Add", ["h", "half"], "p"), node("Mul", ["p", "x"], "y")]
    measure("Div, Erf, Mul, Add, Mul", other, x, constants, expected)


def layer_norm(shape, epsilon=np.float32(1e-5)):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    n = shape[-1]
    scale, bias = (np.random.default_rng(s).standard_normal(n).astype(np.float32) for s in (1, 2))
    wide = x.astype(np.float64)
    wide = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + epsilon)
    expected = wide * scale + bias
    print(f"layer norm of {shape}")
    constants = {"scale": scale, "bias": bias}
    native = [node("LayerNormalization", ["x", "scale", "bias"], "y", axis=-1, epsilon=epsilon)]
    measure("LayerNormalization (ours)", native, x, constants, expected)
    parts = constants | {"axes": np.array([-1]), "e": np.array(epsilon)}
    affine = [node("Mul", ["n", "scale"], "s"), node("Add", ["s", "bias"], "y")]
    measure("ReduceMean, Sub, Mul … Add", small_ops("x") + affine, x, parts, expected)


def main():
    print(f"ONNX Runtime {ort.__version__}, {THREADS} threads")
    group_norm((2, 320, 64, 64), 32)
    group_norm((8, 96, 8, 8), 32)
    layer_norm((2, 1024, 640))
    layer_norm((8, 64, 96))
    gelu((2, 1024, 2560))
    gelu((8, 64, 384))


if __name__ == "__main__":
    main()
