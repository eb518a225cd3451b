//! A typed ONNX graph builder.
