"""`--target cuda` bundles beside the plain bundle of the same model, without a GPU.

    pa-export MODEL -o plain; pa-export MODEL -o fused --target cuda
    python scripts/oracle/fused.py plain fused

Every fused node is held to ONNX Runtime's own schema (operands, attributes, types) and to the limits that
the CUDA kernels state in their source. Then the graph is run on the CPU: operators that ONNX Runtime has
CPU kernels for (MultiHeadAttention, SkipLayerNormalization, QuickGelu, BiasGelu) run there; those that only
CUDA has are written out in standard operators, from their documentation
(onnxruntime/docs/ContribOperators.md) and kernels. What comes out must be what the plain graph gives.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path
from shutil import copytree

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

from half import inputs

ort.set_default_logger_severity(4)
PARTS = ["text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder"]
# fp32 in another order of sums; fp16 rounds at other places (units of 2^-11 of the largest value).
LARGEST = {TensorProto.FLOAT: 2e-5, TensorProto.FLOAT16: 8 * 2.0**-11}
SCHEMAS = {s.name: s for s in state.get_all_operator_schema() if s.domain == "com.microsoft"}
TYPES = {TensorProto.FLOAT: "tensor(float)", TensorProto.FLOAT16: "tensor(float16)"}


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def held_to_schema(node, types):
    """Operands, attributes and types as ONNX Runtime registers them."""
    schema = SCHEMAS[node.op_type]
    given = attributes(node)
    assert set(given) <= set(schema.attributes), (node.name, set(given) - set(schema.attributes))
    required = {n for n, a in schema.attributes.items() if a.required}
    assert required <= set(given), (node.name, required - set(given))
    assert schema.min_input <= len(node.input) <= schema.max_input, node.name
    assert schema.min_output <= len(node.output) <= schema.max_output, node.name
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    bound = {}
    for formal, name in zip(schema.inputs, node.input):
        if not name:
            assert "Optional" in str(formal.option), (node.name, formal.name)
            continue
        kind = TYPES[types[name]]
        assert kind in constraints.get(formal.typeStr, [formal.typeStr]), (node.name, formal.name, kind)
        assert bound.setdefault(formal.typeStr, kind) == kind, (node.name, formal.name, kind)


def held_to_kernel(node, types, shapes):
    """What the CUDA kernels check or assume at run time."""
    width = lambda name: shapes[name][-1]
    match node.op_type:
        case "GroupNorm" | "SkipGroupNorm":
            group = width(node.input[1]) // attributes(node)["groups"]
            assert len(shapes[node.input[0]]) == 4 and group % 2 == 0, node.name
            assert all(types[n] == TensorProto.FLOAT for n in node.input[1:3]), node.name
        case "BiasSplitGelu":
            assert width(node.input[1]) // 2 in (1280, 2560, 5120), node.name
        case "BiasAdd":
            assert width(node.input[1]) in (320, 640, 1280) and len(shapes[node.input[0]]) == 3, node.name
        case "SkipLayerNormalization":
            assert len(shapes[node.input[0]]) == 3, node.name


class Written:
    """Fused nodes written out in standard operators."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def add(self, op, operands, output=None, **attrs):
        self.count += 1
        output = output or f"written{self.count}"
        self.nodes.append(helper.make_node(op, operands, [output], **attrs))
        return output

    def ints(self, *values):
        self.count += 1
        self.constants.append(helper.make_tensor(f"ints{self.count}", TensorProto.INT64, [len(values)], values))
        return self.constants[-1].name

    def conv(self, node):
        x = self.add("Transpose", [node.input[0]], perm=[0, 3, 1, 2])
        w = self.add("Transpose", [node.input[1]], perm=[0, 3, 1, 2])
        y = self.add("Conv", [x, w, *node.input[2:]], **attributes(node))
        self.add("Transpose", [y], node.output[0], perm=[0, 2, 3, 1])

    def norm(self, node, dtype):
        given = attributes(node)
        x = node.input[0]
        if node.op_type == "SkipGroupNorm":
            sum_name = node.output[1] if len(node.output) > 1 else None
            x = self.add("Add", [x, node.input[3]], sum_name)
        x = self.add("Cast", [x], to=TensorProto.FLOAT)
        x = self.add("Transpose", [x], perm=[0, 3, 1, 2])
        # GroupNormalization of opset 20 has scale and bias per group, so they come after it.
        grouped = self.add("Reshape", [x, self.ints(0, given["groups"], -1)])
        mean = self.add("ReduceMean", [grouped, self.ints(2)])
        centred = self.add("Sub", [grouped, mean])
        variance = self.add("ReduceMean", [self.add("Mul", [centred, centred]), self.ints(2)])
        self.count += 1
        epsilon = f"epsilon{self.count}"
        self.constants.append(helper.make_tensor(epsilon, TensorProto.FLOAT, [], [given["epsilon"]]))
        deviation = self.add("Sqrt", [self.add("Add", [variance, epsilon])])
        normal = self.add("Div", [centred, deviation])
        normal = self.add("Reshape", [normal, self.add("Shape", [x])])
        normal = self.add("Transpose", [normal], perm=[0, 2, 3, 1])
        y = self.add("Add", [self.add("Mul", [normal, node.input[1]]), node.input[2]])
        if given["activation"]:
            y = self.add("Mul", [y, self.add("Sigmoid", [y])])
        self.add("Cast", [y], node.output[0], to=dtype)

    def split_gelu(self, node):
        both = self.add("Add", node.input)
        self.nodes.append(helper.make_node("Split", [both], [f"{both}.a", f"{both}.b"], axis=-1, num_outputs=2))
        self.add("Mul", [f"{both}.a", self.add("Gelu", [f"{both}.b"])], node.output[0])

    def node(self, node, dtype):
        match node.op_type:
            case "NhwcConv":
                self.conv(node)
            case "GroupNorm" | "SkipGroupNorm":
                self.norm(node, dtype)
            case "BiasSplitGelu":
                self.split_gelu(node)
            case "BiasAdd":
                self.add("Add", [self.add("Add", node.input[:2]), node.input[2]], node.output[0])
            case _:
                self.nodes.append(node)


def shapes_of(session_model, values):
    """Type and shape of every value on these inputs, by running the written-out model with all of them
    as outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(session_model)
    known = {o.name for o in model.graph.output}
    names = [n for node in model.graph.node for n in node.output if n and n not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    session = ort.InferenceSession(model.SerializeToString())
    outputs = session.run([o.name for o in session.get_outputs()], values)
    numbers = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16, np.int64: TensorProto.INT64}
    found = {o.name: a for o, a in zip(session.get_outputs(), outputs)} | values
    types = {n: numbers.get(a.dtype.type, 0) for n, a in found.items()}
    shapes = {n: a.shape for n, a in found.items()}
    for tensor in model.graph.initializer:
        types[tensor.name], shapes[tensor.name] = tensor.data_type, tuple(tensor.dims)
    return types, shapes


def load(folder):
    with tempfile.TemporaryDirectory() as copy:
        copytree(folder, copy, dirs_exist_ok=True)
        return onnx.load(Path(copy) / "model.onnx")


def main():
    plain, fused = map(Path, sys.argv[1:])
    good = True
    for part in (p for p in PARTS if (plain / p).is_dir()):
        options = ort.SessionOptions()
        session = ort.InferenceSession(plain / part / "model.onnx", options)
        kinds = {i.name: i.type for i in [*session.get_inputs(), *session.get_overridable_initializers()]}
        values = inputs(session, 7)
        values = {n: v.astype(np.float16) if "float16" in kinds[n] else v for n, v in values.items()}
        expected = session.run(None, values)
        model = load(fused / part)
        out = model.graph.output[0].type.tensor_type.elem_type
        written = Written()
        contrib = [n for n in model.graph.node if n.domain == "com.microsoft"]
        assert contrib, f"{part} has no fused operator"
        for node in model.graph.node:
            written.node(node, out)
        rewritten = onnx.ModelProto()
        rewritten.CopyFrom(model)
        del rewritten.graph.node[:]
        rewritten.graph.node.extend(written.nodes)
        rewritten.graph.initializer.extend(written.constants)
        types, shapes = shapes_of(rewritten, values)
        for node in contrib:
            held_to_schema(node, types)
            held_to_kernel(node, types, shapes)
        found = ort.InferenceSession(rewritten.SerializeToString()).run(None, values)
        worst = max(
            np.abs(a.astype(np.float64) - b).max() / np.abs(a).astype(np.float64).max()
            for a, b in zip(expected, found)
            if a.size
        )
        print(f"{part}: {worst:.1e}", dict(Counter(n.op_type for n in contrib)), flush=True)
        good &= bool(worst <= LARGEST[out])
    sys.exit(not good)


if __name__ == "__main__":
    main()
