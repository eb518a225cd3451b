//! Checking a model file by the ONNX checker's structural rules (`onnx/checker.cc`), without
//! Python and without running it: known operators with as many operands as they take, values
//! defined before they are used and once, attributes of the right kind, initializers whose bytes
//! are there. It knows the operators that this crate writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use prost::Message;

use super::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfo};
use super::write::{CONTRIB, OPSET, OPSET_BF16};
use crate::base::DType;
use crate::base::fsio;

/// Why a model file is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file can't be read.
    #[error(transparent)]
    Io(#[from] fsio::Error),
    /// It is no ONNX file.
    #[error("is no ONNX model: {0}")]
    Decode(#[from] prost::DecodeError),
    /// It breaks a rule.
    #[error("is no valid ONNX model: {0}")]
    Rule(String),
}

type Result<T> = std::result::Result<T, CheckError>;

fn broken<T>(problem: impl Into<String>) -> Result<T> {
    Err(CheckError::Rule(problem.into()))
}

/// Checks the model at `path` and the files beside it that it points into.
///
/// # Errors
/// [`CheckError::Rule`], naming the node or value.
pub fn check(path: &Path) -> Result<()> {
    let bytes = fsio::read(path)?;
    let model = ModelProto::decode(bytes.as_slice())?;
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let Some(opset) = model.opset_import.iter().find(|o| standard(&o.domain)) else {
        return broken("no opset is imported");
    };
    let known = [OPSET, OPSET_BF16];
    let Some(known) = known.iter().find(|k| k.version == opset.version) else {
        let [first, second] = known.map(|k| k.version);
        let found = opset.version;
        return broken(format!("opset {found}, expected {first} or {second}"));
    };
    if !(1..=known.ir).contains(&model.ir_version) {
        let (found, most) = (model.ir_version, known.ir);
        return broken(format!("IR version {found}, expected at most {most}"));
    }
    let Some(graph) = &model.graph else {
        return broken("it has no graph");
    };
    let imported = |n: &NodeProto| model.opset_import.iter().any(|o| o.domain == n.domain);
    if let Some(node) = graph.node.iter().find(|n| !imported(n)) {
        let (name, domain) = (&node.name, &node.domain);
        return broken(format!(
            "node `{name}` is of domain `{domain}`, which is not imported"
        ));
    }
    if graph.name.is_empty() {
        return broken("the graph has no name");
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    check_graph(graph, folder)
}

fn check_graph(graph: &GraphProto, folder: &Path) -> Result<()> {
    let mut defined: BTreeSet<&str> = BTreeSet::new();
    for input in &graph.input {
        check_port(input)?;
        if !defined.insert(&input.name) {
            return broken(format!("input `{}` comes twice", input.name));
        }
    }
    let mut initializers = BTreeSet::new();
    let mut sizes = BTreeMap::new();
    for tensor in &graph.initializer {
        if tensor.name.is_empty() || !initializers.insert(tensor.name.as_str()) {
            return broken(format!(
                "initializer `{}` comes twice or has no name",
                tensor.name
            ));
        }
        check_tensor(tensor, folder, &mut sizes)?;
    }
    // An initializer that is an input too is the input's default.
    defined.extend(initializers);
    for node in &graph.node {
        check_node(node, &mut defined)?;
    }
    for output in &graph.output {
        check_port(output)?;
        if !defined.contains(output.name.as_str()) {
            return broken(format!("output `{}` is computed by nothing", output.name));
        }
    }
    Ok(())
}

fn check_port(port: &ValueInfo) -> Result<()> {
    let tensor = port.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let typed = tensor.is_some_and(|t| element(t.elem_type).is_some() && t.shape.is_some());
    if port.name.is_empty() || !typed {
        return broken(format!(
            "input or output `{}` has no name, type or shape",
            port.name
        ));
    }
    Ok(())
}

/// The types of the tensors that this crate writes.
const ELEMENTS: [DType; 7] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::U8,
    DType::Bool,
];

/// The type of that number, if it is known here.
fn element(onnx: i32) -> Option<DType> {
    ELEMENTS.into_iter().find(|d| d.onnx() == onnx)
}

fn check_tensor<'a>(
    tensor: &'a TensorProto,
    folder: &Path,
    sizes: &mut BTreeMap<&'a str, u64>,
) -> Result<()> {
    let name = &tensor.name;
    let Some(dtype) = element(tensor.data_type) else {
        return broken(format!(
            "initializer `{name}` has unknown type {}",
            tensor.data_type
        ));
    };
    let shape: Option<Vec<u64>> = tensor.dims.iter().map(|&n| n.try_into().ok()).collect();
    let Some(bytes) = shape.and_then(|shape| dtype.bytes(&shape)) else {
        return broken(format!("initializer `{name}` has shape {:?}", tensor.dims));
    };
    if tensor.data_location != Some(1) {
        let found = tensor.raw_data.as_ref().map_or(0, Vec::len) as u64;
        if found != bytes {
            return broken(format!(
                "initializer `{name}` has {found} bytes, its shape needs {bytes}"
            ));
        }
        return Ok(());
    }
    check_external(tensor, bytes, folder, sizes)
}

/// Checks that the bytes that a tensor points to are there, as many as its shape needs.
fn check_external<'a>(
    tensor: &'a TensorProto,
    bytes: u64,
    folder: &Path,
    sizes: &mut BTreeMap<&'a str, u64>,
) -> Result<()> {
    let name = &tensor.name;
    let entry = |key: &str| {
        let found = tensor.external_data.iter().find(|e| e.key == key);
        found.map(|e| e.value.as_str())
    };
    let number = |key: &str| entry(key).and_then(|v| v.parse::<u64>().ok());
    let (Some(location), Some(offset), Some(length)) =
        (entry("location"), number("offset"), number("length"))
    else {
        return broken(format!(
            "initializer `{name}` has no location, offset or length"
        ));
    };
    if length != bytes {
        return broken(format!(
            "initializer `{name}` points to {length} bytes, its shape needs {bytes}"
        ));
    }
    let there = match sizes.get(location) {
        Some(&there) => there,
        None => *sizes.entry(location).or_insert(external(folder, location)?),
    };
    if offset.checked_add(length).is_none_or(|end| end > there) {
        return broken(format!(
            "initializer `{name}` points behind the end of {location}, which has {there} bytes"
        ));
    }
    Ok(())
}

/// The size of a file that initializers point into: a plain file in the model's folder.
fn external(folder: &Path, location: &str) -> Result<u64> {
    let mut parts = Path::new(location).components();
    let plain = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    let metadata = folder.join(location).symlink_metadata();
    match metadata {
        Ok(metadata) if plain && metadata.is_file() => Ok(metadata.len()),
        _ => broken(format!(
            "`{location}` is no plain file in the model's folder"
        )),
    }
}

fn check_node<'a>(node: &'a NodeProto, defined: &mut BTreeSet<&'a str>) -> Result<()> {
    let (op, name) = (node.op_type.as_str(), node.name.as_str());
    let operators = match node.domain.as_str() {
        "" => OPERATORS,
        domain if domain == CONTRIB.0 => CONTRIB_OPERATORS,
        domain => return broken(format!("node `{name}` is of unknown domain `{domain}`")),
    };
    let Some(&(_, inputs, outputs, attributes)) = operators.iter().find(|o| o.0 == op) else {
        return broken(format!("node `{name}` has unknown operator `{op}`"));
    };
    let [least, most] = inputs;
    if !(least..=most).contains(&node.input.len()) {
        let found = node.input.len();
        return broken(format!(
            "node `{name}`: {op} takes {least} to {most} inputs, it has {found}"
        ));
    }
    if node.output.is_empty() || node.output.len() > outputs {
        let found = node.output.len();
        return broken(format!(
            "node `{name}`: {op} has up to {outputs} outputs, not {found}"
        ));
    }
    let mut seen = BTreeSet::new();
    for attribute in &node.attribute {
        let known = attributes.contains(&attribute.name.as_str());
        if !known || !seen.insert(&attribute.name) || !holds_its_kind(attribute) {
            let attribute = &attribute.name;
            return broken(format!(
                "node `{name}`: {op} with attribute `{attribute}` is wrong"
            ));
        }
    }
    for input in node.input.iter().filter(|i| !i.is_empty()) {
        if !defined.contains(input.as_str()) {
            return broken(format!(
                "node `{name}` reads `{input}`, which comes from nowhere before it"
            ));
        }
    }
    for output in node.output.iter().filter(|o| !o.is_empty()) {
        if !defined.insert(output) {
            return broken(format!("node `{name}` computes `{output}` again"));
        }
    }
    Ok(())
}

/// Whether the field that an attribute's type names is the one that is filled.
fn holds_its_kind(attribute: &AttributeProto) -> bool {
    use super::onnx::AttributeType as T;
    let AttributeProto { f, i, s, ints, .. } = attribute;
    let filled = (f.is_some(), i.is_some(), s.is_some(), !ints.is_empty());
    match attribute.r#type() {
        T::Float => filled == (true, false, false, false),
        T::Int => filled == (false, true, false, false),
        T::String => filled == (false, false, true, false),
        // A list may be empty.
        T::Ints => !filled.0 && !filled.1 && !filled.2,
        T::Undefined => false,
    }
}

/// An operator: name, fewest and most inputs, most outputs, attributes.
type Operator = (&'static str, [usize; 2], usize, &'static [&'static str]);

/// Most inputs of an operator that takes any number.
const ANY: usize = usize::MAX;

/// The operators of opsets 20 and 22 that this crate writes, as their schemas have them.
const OPERATORS: &[Operator] = &[
    ("Add", [2, 2], 1, &[]),
    ("And", [2, 2], 1, &[]),
    (
        "ArgMax",
        [1, 1],
        1,
        &["axis", "keepdims", "select_last_index"],
    ),
    ("AveragePool", [1, 1], 1, POOL),
    (
        "BatchNormalization",
        [5, 5],
        3,
        &["epsilon", "momentum", "training_mode"],
    ),
    ("Cast", [1, 1], 1, &["to", "saturate"]),
    ("Concat", [1, ANY], 1, &["axis"]),
    ("Conv", [2, 3], 1, CONV),
    ("ConvTranspose", [2, 3], 1, CONV),
    ("Cos", [1, 1], 1, &[]),
    ("Div", [2, 2], 1, &[]),
    ("Equal", [2, 2], 1, &[]),
    ("Erf", [1, 1], 1, &[]),
    ("Exp", [1, 1], 1, &[]),
    ("Expand", [2, 2], 1, &[]),
    ("Gather", [2, 2], 1, &["axis"]),
    ("Gelu", [1, 1], 1, &["approximate"]),
    ("Gemm", [2, 3], 1, &["alpha", "beta", "transA", "transB"]),
    ("GlobalAveragePool", [1, 1], 1, &[]),
    ("Greater", [2, 2], 1, &[]),
    ("Identity", [1, 1], 1, &[]),
    (
        "LayerNormalization",
        [2, 3],
        3,
        &["axis", "epsilon", "stash_type"],
    ),
    ("Less", [2, 2], 1, &[]),
    ("Log", [1, 1], 1, &[]),
    ("MatMul", [2, 2], 1, &[]),
    ("Max", [1, ANY], 1, &[]),
    ("MaxPool", [1, 1], 2, POOL),
    ("Min", [1, ANY], 1, &[]),
    ("Mul", [2, 2], 1, &[]),
    ("Neg", [1, 1], 1, &[]),
    ("Not", [1, 1], 1, &[]),
    ("Pad", [2, 4], 1, &["mode"]),
    ("Pow", [2, 2], 1, &[]),
    ("Reciprocal", [1, 1], 1, &[]),
    ("ReduceMax", [1, 2], 1, REDUCE),
    ("ReduceMean", [1, 2], 1, REDUCE),
    ("ReduceSum", [1, 2], 1, REDUCE),
    ("Relu", [1, 1], 1, &[]),
    ("Reshape", [2, 2], 1, &["allowzero"]),
    ("Resize", [1, 4], 1, RESIZE),
    ("Shape", [1, 1], 1, &["start", "end"]),
    ("Sigmoid", [1, 1], 1, &[]),
    ("Sin", [1, 1], 1, &[]),
    ("Slice", [3, 5], 1, &[]),
    ("Softmax", [1, 1], 1, &["axis"]),
    ("Sqrt", [1, 1], 1, &[]),
    ("Sub", [2, 2], 1, &[]),
    ("Tanh", [1, 1], 1, &[]),
    ("Transpose", [1, 1], 1, &["perm"]),
    ("Where", [3, 3], 1, &[]),
];
/// Those of ONNX Runtime that this crate writes, as its schemas have them.
const CONTRIB_OPERATORS: &[Operator] = &[
    ("BiasAdd", [3, 3], 1, &[]),
    ("BiasGelu", [2, 2], 1, &[]),
    ("BiasSplitGelu", [2, 2], 1, &[]),
    (
        "FusedMatMul",
        [2, 2],
        1,
        &["alpha", "transA", "transB", "transBatchA", "transBatchB"],
    ),
    ("GroupNorm", [3, 3], 1, GROUP_NORM),
    (
        "MultiHeadAttention",
        [1, 10],
        4,
        &["num_heads", "mask_filter_value", "scale", "unidirectional"],
    ),
    ("NhwcConv", [2, 3], 1, NHWC_CONV),
    ("QuickGelu", [1, 1], 1, &["alpha"]),
    ("SkipGroupNorm", [4, 5], 2, GROUP_NORM),
    ("SkipLayerNormalization", [3, 5], 4, &["epsilon"]),
];
const GROUP_NORM: &[&str] = &["activation", "channels_last", "epsilon", "groups"];
const NHWC_CONV: &[&str] = &[
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
];
const CONV: &[&str] = &[
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "output_padding",
    "pads",
    "strides",
];
const POOL: &[&str] = &[
    "auto_pad",
    "ceil_mode",
    "dilations",
    "kernel_shape",
    "pads",
    "strides",
];
const REDUCE: &[&str] = &["keepdims", "noop_with_empty_axes"];
const RESIZE: &[&str] = &["coordinate_transformation_mode", "mode", "nearest_mode"];
