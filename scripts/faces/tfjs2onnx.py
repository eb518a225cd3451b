"""TensorFlow.js graph models to ONNX.

Does exactly what the two face classifiers need and refuses everything else by name. Pictures come in
as [N, 3, height, width]; TensorFlow's NHWC stays outside. Weights that the package stores as fp16
stay fp16 in the file, each followed by a Cast, which ONNX Runtime folds when it loads the model: the
arithmetic is fp32 on the very numbers TensorFlow.js uses, at half the size.
"""

import base64
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 8
ELEMENTWISE = {"Add": "Add", "Mul": "Mul", "Minimum": "Min", "Maximum": "Max"}


class Unsupported(Exception):
    """The model has something this converter does not know."""


def text(attribute):
    return base64.b64decode(attribute).decode()


def tensor_name(name):
    """`node:0` and control inputs `^node` to the node's name."""
    return name.lstrip("^").split(":")[0]


def read_weights(model, folder):
    """All weights by name, in the dtype the file stores."""
    weights = {}
    for group in model["weightsManifest"]:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for weight in group["weights"]:
            stored = weight.get("quantization", {}).get("dtype", weight["dtype"])
            kinds = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}
            if stored not in kinds:
                raise Unsupported(f"weight {weight['name']} is stored as {stored}")
            count = int(np.prod(weight["shape"]))
            values = np.frombuffer(data, kinds[stored], count, offset)
            offset += values.nbytes
            weights[weight["name"]] = values.reshape(weight["shape"])
        if offset != len(data):
            raise Unsupported(f"{len(data)} bytes of weights, {offset} described")
    return weights


class Converter:
    """One graph on its way from TensorFlow.js to ONNX."""

    def __init__(self, path):
        path = Path(path)
        self.model = json.loads(path.read_text())
        self.weights = read_weights(self.model, path.parent)
        self.nodes, self.initializers, self.inputs = [], [], []
        self.casts = set()
        # Of each value: (channels, height, width), or (units,) once the picture is pooled away.
        self.shapes = {}

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name, values):
        """The name of a weight's fp32 value."""
        if name in self.casts:
            return name
        self.casts.add(name)
        values = np.ascontiguousarray(values)
        if values.dtype != np.float16:
            self.initializers.append(numpy_helper.from_array(values.astype("f4"), name))
            return name
        self.initializers.append(numpy_helper.from_array(values, name + "/fp16"))
        self.node("Cast", [name + "/fp16"], name, to=TensorProto.FLOAT)
        return name

    def convert(self, outputs):
        """An ONNX model with the outputs of these names."""
        for node in self.model["modelTopology"]["node"]:
            self.one(node)
        named = {
            tensor_name(key): tensor_name(value["name"])
            for key, value in self.model["signature"]["outputs"].items()
        }
        results = []
        for name in outputs:
            source = named[name]
            if source != name:
                self.node("Identity", [source], name)
            shape = ["N", *self.shapes[source]]
            results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.prune(outputs)
        graph = helper.make_graph(self.nodes, "face", self.inputs, results, self.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="scripts/faces/convert")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model

    def prune(self, outputs):
        """Drops what no output needs."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [i for i in self.initializers if i.name in needed]

    def one(self, node):
        op, name = node["op"], node["name"]
        inputs = [tensor_name(i) for i in node.get("input", [])]
        attributes = node.get("attr", {})
        if op == "Const":
            return
        if op == "Placeholder":
            size = [int(d["size"]) for d in attributes["shape"]["shape"]["dim"]]
            self.shapes[name] = (size[3], size[1], size[2])
            shape = ["N", *self.shapes[name]]
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        elif op in ("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative"):
            self.convolution(op, name, inputs, attributes)
        elif op == "_FusedMatMul":
            self.linear(name, inputs, attributes)
        elif op in ELEMENTWISE:
            self.elementwise(op, name, inputs)
        elif op == "MaxPool":
            kernel = self.along(attributes, "ksize")
            strides = self.along(attributes, "strides")
            pads, size = self.padding(attributes, inputs[0], kernel, strides)
            self.node("MaxPool", inputs, name, kernel_shape=kernel, strides=strides, pads=pads)
            self.shapes[name] = (self.shapes[inputs[0]][0], *size)
        elif op in ("Max", "Mean"):
            self.pool(op, name, inputs, attributes)
        elif op in ("Relu", "Sigmoid", "Identity"):
            self.node(op, inputs, name)
            self.shapes[name] = self.shapes[inputs[0]]
        elif op == "Softmax":
            self.node(op, inputs, name, axis=-1)
            self.shapes[name] = self.shapes[inputs[0]]
        else:
            raise Unsupported(f"operation {op} of {name}")

    @staticmethod
    def along(attributes, key):
        """A [1, height, width, 1] attribute as [height, width]."""
        return [int(v) for v in attributes[key]["list"]["i"]][1:3]

    def padding(self, attributes, source, kernel, strides):
        """ONNX pads and the output's [height, width]."""
        size = self.shapes[source][1:]
        kind = text(attributes["padding"]["s"])
        if kind == "VALID":
            return [0] * 4, [(n - k) // s + 1 for n, k, s in zip(size, kernel, strides)]
        if kind != "SAME":
            raise Unsupported(f"padding {kind}")
        out = [-(-n // s) for n, s in zip(size, strides)]
        # TensorFlow puts the odd pixel at the end.
        total = [
            max((o - 1) * s + k - n, 0) for o, s, k, n in zip(out, strides, kernel, size)
        ]
        before = [t // 2 for t in total]
        return before + [t - b for t, b in zip(total, before)], out

    @staticmethod
    def fused(attributes):
        """What is fused into an operation, checked: (has bias, has relu)."""
        ops = [text(v) for v in attributes.get("fused_ops", {}).get("list", {}).get("s", [])]
        if ops not in ([], ["BiasAdd"], ["BiasAdd", "Relu"]):
            raise Unsupported(f"fused operations {ops}")
        return "BiasAdd" in ops, "Relu" in ops

    def convolution(self, op, name, inputs, attributes):
        depthwise = op == "DepthwiseConv2dNative"
        if [int(v) for v in attributes["dilations"]["list"]["i"]] != [1] * 4:
            raise Unsupported(f"dilations of {name}")
        kernel = self.weights[inputs[1]]
        height, width = kernel.shape[:2]
        if depthwise:
            # [h, w, in, multiplier] to [in · multiplier, 1, h, w]
            kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
        else:
            kernel = kernel.transpose(3, 2, 0, 1)
        strides = self.along(attributes, "strides")
        pads, size = self.padding(attributes, inputs[0], (height, width), strides)
        channels = self.shapes[inputs[0]][0]
        operands = [inputs[0], self.constant(inputs[1], kernel)]
        bias, relu = self.fused(attributes)
        if bias:
            operands.append(self.constant(inputs[2], self.weights[inputs[2]].reshape(-1)))
        linear = name + "/linear" if relu else name
        group = channels if depthwise else 1
        self.node("Conv", operands, linear, strides=strides, pads=pads, group=group)
        if relu:
            self.node("Relu", [linear], name)
        self.shapes[name] = (kernel.shape[0], *size)

    def linear(self, name, inputs, attributes):
        for key in ("transpose_a", "transpose_b"):
            if attributes.get(key, {}).get("b"):
                raise Unsupported(f"{key} of {name}")
        bias, relu = self.fused(attributes)
        weight = self.weights[inputs[1]]
        operands = [inputs[0], self.constant(inputs[1], weight)]
        if bias:
            operands.append(self.constant(inputs[2], self.weights[inputs[2]].reshape(-1)))
        linear = name + "/linear" if relu else name
        self.node("Gemm", operands, linear)
        if relu:
            self.node("Relu", [linear], name)
        self.shapes[name] = (weight.shape[1],)

    def elementwise(self, op, name, inputs):
        shape = max((self.shapes[i] for i in inputs if i in self.shapes), key=len)
        operands = []
        for source in inputs:
            if source in self.weights:
                values = self.weights[source]
                if values.size > 1 and len(shape) == 3:
                    values = values.reshape(1, -1, 1, 1)
                self.constant(source, values)
            operands.append(source)
        self.node(ELEMENTWISE[op], operands, name)
        self.shapes[name] = shape

    def pool(self, op, name, inputs, attributes):
        axes = sorted(self.weights[inputs[1]].reshape(-1).tolist())
        if axes != [1, 2] or attributes.get("keep_dims", {}).get("b"):
            raise Unsupported(f"{op} of {name} over {axes}")
        pooled = name + "/pooled"
        self.node("GlobalMaxPool" if op == "Max" else "GlobalAveragePool", inputs[:1], pooled)
        self.node("Flatten", [pooled], name, axis=1)
        self.shapes[name] = self.shapes[inputs[0]][:1]


def convert(source, target, outputs):
    """Converts the model at `source`, a .json beside its .bin, into the ONNX file `target`."""
    model = Converter(source).convert(outputs)
    Path(target).write_bytes(model.SerializeToString(deterministic=True))
