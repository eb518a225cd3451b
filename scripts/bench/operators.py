"""Says where a training graph's time goes, and how far it is from the machine's matrix products.

    python scripts/bench/operators.py BUNDLE [--part unet_grad] [--batch 2] [--size 64] [--threads 2] [--runs 3]
        [--shapes 0] [--in-place]

ONNX Runtime's own profiler times every operator of the graph on random operands. Its shapes give the
multiply-adds of Conv, Gemm and MatMul (fused ones too), so their rate is measured in GFLOP/s (two a
multiply-add) and set against the best rate of a large fp32 matrix product, by the same runtime on the same
threads, timed right before and after.

Needs onnxruntime, onnx, numpy.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

RANK = 8
TOKENS = 77


def session(model, threads, profile=None, in_place=False):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if in_place:
        # As src/runtime/session.rs opens large training graphs.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("optimization.disable_specified_optimizers", "ConstantFolding")
        options.enable_mem_pattern = False
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def product_rate(threads, n=2048, runs=8):
    """The best GFLOP/s of [n, n] x [n, n]."""
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [n, n])
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", [value("a"), value("b")], [value("c")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    product = session(model.SerializeToString(), threads)
    feed = {name: np.ones((n, n), np.float32) for name in "ab"}
    best = 0.0
    for _ in range(runs):
        start = time.perf_counter()
        product.run(None, feed)
        best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return best


def feed_of(found, batch, size):
    rng = np.random.default_rng(0)
    free = {"batch": batch, "height": size, "width": size, "sequence": TOKENS}
    feed = {}
    for spec in found.get_inputs() + found.get_overridable_initializers():
        if spec.name in ("lora_scale", "checkpoint_gate"):
            continue
        shape = [batch if i == 0 and not isinstance(d, int) else d for i, d in enumerate(spec.shape)]
        if spec.name in ("sample", "target"):
            shape = [batch, 4, size, size]
        if spec.name == "encoder_hidden_states":
            shape = [batch, TOKENS, spec.shape[-1]]
        if not all(isinstance(d, int) for d in shape):
            raise SystemExit(f"no size for {spec.name} {spec.shape} in {free}")
        scale = 0.05 if ".lora_" in spec.name else 1.0
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        if spec.name == "timestep":
            values = np.full(shape, 500)
        feed[spec.name] = values.astype({"tensor(float)": np.float32, "tensor(int64)": np.int64}[spec.type])
    return feed


def flops(event):
    """Two for each multiply-add of a product or convolution; 0 for anything else."""
    arguments = event["args"]
    shapes = [next(iter(entry.values())) for entry in arguments.get("input_type_shape", [])]
    out = [next(iter(entry.values())) for entry in arguments.get("output_type_shape", [])]
    name = arguments["op_name"]
    if name in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm") and len(shapes) > 1 and out:
        m_n = math.prod(out[0])
        # The inner size is what both operands have and the output lacks.
        k = math.sqrt(math.prod(shapes[0][-2:]) * math.prod(shapes[1][-2:]) / math.prod(out[0][-2:]))
        return 2 * m_n * k
    if name in ("Conv", "FusedConv", "ConvTranspose") and len(shapes) > 1 and out:
        weight = shapes[1]
        base = shapes[0] if name == "ConvTranspose" else out[0]
        return 2 * math.prod(base) * math.prod(weight[1:])
    return 0


def shaped(event):
    """An operator with its operands' shapes."""
    shapes = (next(iter(entry.values())) for entry in event["args"].get("input_type_shape", []))
    return f"{event['args']['op_name']} {' '.join('x'.join(map(str, shape)) or '1' for shape in shapes)}"


def tally(events, runs, key):
    """What one run spends by key: (key, operators, seconds, operations), the costliest first."""
    rows = {}
    for event in events:
        row = rows.setdefault(key(event), [0.0, 0.0, 0.0])
        for i, amount in enumerate((1, event["dur"] / 1e6, flops(event))):
            row[i] += amount / runs
    return sorted(((name, *row) for name, row in rows.items()), key=lambda row: -row[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--part", default="unet_grad")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--in-place", action="store_true", help="weights where the file is mapped, as pa-finetune does for large models")
    parser.add_argument("--shapes", type=int, default=0, help="also the costliest operators by their operands' shapes")
    args = parser.parse_args()
    before = product_rate(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = session(str(args.bundle / args.part / "model.onnx"), args.threads, f"{folder}/profile", args.in_place)
        feed = feed_of(found, args.batch, args.size)
        for _ in range(args.runs + 1):
            found.run(None, feed)
        events = json.loads(Path(found.end_profiling()).read_text())
    after = product_rate(args.threads)
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    nodes = nodes[len(nodes) // (args.runs + 1) :]
    kinds = tally(nodes, args.runs, lambda event: event["args"]["op_name"])
    total = sum(seconds for _, _, seconds, _ in kinds)
    peak = max(before, after)
    print(f"{args.part}, batch {args.batch}, {args.size}x{args.size}: {total:.3f} s in operators, {args.threads} threads")
    print(f"matrix product of 2048: {before:.0f} GFLOP/s before, {after:.0f} after")
    print(f"{'operator':24} {'seconds':>9} {'share':>7} {'GFLOP/s':>9} {'of the product':>15}")

    def row(name, spent, done):
        rate = done / spent / 1e9 if done else None
        shown = f"{rate:9.1f} {rate / peak:15.0%}" if rate else ""
        print(f"{name:24} {spent:9.3f} {spent / total:7.1%} {shown}")

    for name, _, spent, done in kinds[:16]:
        row(name, spent, done)
    row("all", total, sum(done for *_, done in kinds))
    for name, count, spent, done in tally(nodes, args.runs, shaped)[: args.shapes]:
        row(f"{count:4.0f} x {name}", spent, done)


if __name__ == "__main__":
    main()
