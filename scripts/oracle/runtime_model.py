"""Writes the tiny models that tests/runtime.rs loads: `python3 scripts/oracle/runtime_model.py`.

`mixed.onnx`: y = scale * x + timestep, with x [n, 2] fp32, timestep [] int64, and scale [] an
initializer (2.0) that is also an input, as our LoRA factors are. `half.onnx`: y = x * x in fp16.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

out = Path(__file__).parents[2] / "tests/fixtures/runtime"


def save(name, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="oracle", ir_version=9
    )
    onnx.checker.check_model(model)
    (out / name).write_bytes(model.SerializeToString())


value = helper.make_tensor_value_info
save(
    "mixed.onnx",
    [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Cast", ["timestep"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["scaled", "t"], ["y"]),
        helper.make_node("Identity", ["timestep"], ["echo"]),
    ],
    [
        value("x", TensorProto.FLOAT, ["n", 2]),
        value("timestep", TensorProto.INT64, []),
        value("scale", TensorProto.FLOAT, []),
    ],
    [value("y", TensorProto.FLOAT, ["n", 2]), value("echo", TensorProto.INT64, [])],
    [numpy_helper.from_array(np.float32(2.0), "scale")],
)
save(
    "half.onnx",
    [helper.make_node("Mul", ["x", "x"], ["y"])],
    [value("x", TensorProto.FLOAT16, ["n"])],
    [value("y", TensorProto.FLOAT16, ["n"])],
)
