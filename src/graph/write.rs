//! Writing a graph as an ONNX file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use prost::Message;

use super::attributes::attributes;
use super::builder::{Node, Origin, Tensor};
use super::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetId, Shape, ShapeDim, StringPair, TensorProto,
    TensorType, TypeProto, ValueInfo,
};
use super::{Contrib, DType, Data, Dim, Graph, Op, Value};

/// An operator set and the IR version that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opset {
    pub(super) version: i64,
    pub(super) ir: i64,
}

/// The domain of ONNX Runtime's own operators, and its only version.
pub(super) const CONTRIB: (&str, i64) = ("com.microsoft", 1);

/// Opset 20 is the first with Gelu, and every op used is standard in it.
pub(super) const OPSET: Opset = Opset { version: 20, ir: 9 };
/// Convolutions, pooling and sines take bf16 only from opset 22 on. Nothing else that is used here
/// changed between the two but the types it takes.
pub(super) const OPSET_BF16: Opset = Opset {
    version: 22,
    ir: 10,
};
/// All-zero initializers up to this size are written out; larger ones share a file of zeros.
const INLINE_ZEROS: u64 = 256;

/// A written graph.
#[derive(Debug, Clone)]
pub struct Onnx {
    /// Bytes of `model.onnx`.
    pub model: Vec<u8>,
    /// Length of the file of zeros (`Graph::to_onnx`'s `zeros`) it needs beside it; 0 for none.
    pub zeros: u64,
}

impl Graph {
    /// Encodes the graph as an ONNX model.
    ///
    /// `location` gives each weight file its name in the model's folder, where it must be
    /// (ONNX Runtime accepts external data only there); `zeros` names a file of zeros there, of
    /// at least [`Onnx::zeros`] bytes.
    pub fn to_onnx(&self, location: impl Fn(&Path) -> String, zeros: &str) -> Onnx {
        let used: BTreeSet<Value> = self
            .nodes
            .iter()
            .flat_map(|n| n.inputs.iter().copied())
            .chain(self.outputs.iter().map(|o| o.1))
            .collect();
        let mut writer = Writer {
            graph: self,
            used,
            names: self.value_names(),
            extra: BTreeMap::new(),
            zeros_file: zeros,
            zeros: 0,
            counts: HashMap::new(),
        };
        let nodes: Vec<NodeProto> = self
            .nodes
            .iter()
            .flat_map(|node| writer.node(node))
            .collect();
        let mut initializer = writer.initializers(&location);
        initializer.extend(std::mem::take(&mut writer.extra).into_values());
        let input = self
            .inputs()
            .map(|(name, v, _)| writer.value_info(name, v))
            .collect();
        let (identities, output) = writer.outputs();
        let graph = GraphProto {
            node: nodes.into_iter().chain(identities).collect(),
            name: "popalign".into(),
            initializer,
            input,
            output,
        };
        let opset = self.opset();
        let model = ModelProto {
            ir_version: opset.ir,
            opset_import: self.imports(opset),
            producer_name: "popalign".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
        };
        Onnx {
            model: model.encode_to_vec(),
            zeros: writer.zeros,
        }
    }

    /// The version of ONNX's operators that it is written in.
    pub(super) fn opset_version(&self) -> i64 {
        self.opset().version
    }

    /// The oldest operator set that has all it needs.
    fn opset(&self) -> Opset {
        let bf16 = |tensor: &Tensor| tensor.dtype == DType::BF16;
        match self.tensors.iter().any(bf16) {
            true => OPSET_BF16,
            false => OPSET,
        }
    }

    /// The operator sets that its nodes are of.
    fn imports(&self, opset: Opset) -> Vec<OperatorSetId> {
        let contrib = self.nodes.iter().any(|n| matches!(n.op, Op::Contrib(_)));
        let domains = [("", opset.version), CONTRIB];
        domains
            .into_iter()
            .take(if contrib { 2 } else { 1 })
            .map(|(domain, version)| OperatorSetId {
                domain: domain.into(),
                version,
            })
            .collect()
    }

    /// A unique name per value: inputs keep theirs, weights theirs where it is free, the first
    /// output naming a node's result gives it its name.
    fn value_names(&self) -> Vec<String> {
        let mut taken: BTreeSet<String> = self.names.clone();
        let mut names: Vec<String> = Vec::with_capacity(self.tensors.len());
        for (index, tensor) in self.tensors.iter().enumerate() {
            let name = match &tensor.origin {
                Origin::Input { name, .. } => name.clone(),
                Origin::Initializer { name, .. }
                    if !name.is_empty() && taken.insert(name.clone()) =>
                {
                    name.clone()
                }
                _ => format!("v{index}"),
            };
            names.push(name);
        }
        let mut named = BTreeSet::new();
        for (name, value) in &self.outputs {
            if matches!(self.tensors[value.index()].origin, Origin::Node(_)) && named.insert(*value)
            {
                names[value.index()].clone_from(name);
            }
        }
        names
    }
}

struct Writer<'a> {
    graph: &'a Graph,
    /// Values that a node or an output reads.
    used: BTreeSet<Value>,
    names: Vec<String>,
    /// Constant operands that ONNX wants as inputs (Slice's bounds …), by name.
    extra: BTreeMap<String, TensorProto>,
    zeros_file: &'a str,
    zeros: u64,
    /// Uses of each node name.
    counts: HashMap<String, usize>,
}

impl Writer<'_> {
    fn name(&self, value: Value) -> String {
        self.names[value.index()].clone()
    }

    fn value_info(&self, name: &str, value: Value) -> ValueInfo {
        let dim = |d: &Dim| match d.fixed() {
            Some(n) => ShapeDim {
                dim_value: Some(n as i64),
                dim_param: None,
            },
            None => ShapeDim {
                dim_value: None,
                dim_param: Some(d.text(&self.graph.symbols)),
            },
        };
        let shape = Shape {
            dim: self.graph.shape(value).iter().map(dim).collect(),
        };
        let elem_type = self.graph.dtype(value).onnx();
        let tensor_type = Some(TensorType {
            elem_type,
            shape: Some(shape),
        });
        ValueInfo {
            name: name.to_owned(),
            r#type: Some(TypeProto { tensor_type }),
        }
    }

    /// Graph outputs, and Identity nodes for those whose value has another name (an input, or a
    /// value that is output twice).
    fn outputs(&self) -> (Vec<NodeProto>, Vec<ValueInfo>) {
        let mut identities = Vec::new();
        let mut infos = Vec::new();
        for (name, value) in &self.graph.outputs {
            if self.names[value.index()] != *name {
                identities.push(NodeProto {
                    input: vec![self.name(*value)],
                    output: vec![name.clone()],
                    name: format!("output/{name}"),
                    op_type: "Identity".into(),
                    ..NodeProto::default()
                });
            }
            infos.push(self.value_info(name, *value));
        }
        (identities, infos)
    }

    fn initializers(&mut self, location: &impl Fn(&Path) -> String) -> Vec<TensorProto> {
        let mut protos = Vec::new();
        for (index, tensor) in self.graph.tensors.iter().enumerate() {
            let value = Value(index as u32);
            let data = match &tensor.origin {
                Origin::Input {
                    default: Some(data),
                    ..
                } => data,
                Origin::Initializer { data, .. } if self.used.contains(&value) => data,
                _ => continue,
            };
            let mut proto = TensorProto {
                dims: tensor
                    .shape
                    .iter()
                    .filter_map(Dim::fixed)
                    .map(|n| n as i64)
                    .collect(),
                data_type: tensor.dtype.onnx(),
                name: self.name(value),
                ..TensorProto::default()
            };
            match data {
                Data::Inline(bytes) => proto.raw_data = Some(bytes.to_vec()),
                Data::External {
                    file,
                    offset,
                    length,
                } => {
                    point(&mut proto, &location(file), *offset, *length);
                }
                Data::Zeros => {
                    let elements: i64 = proto.dims.iter().product();
                    let length = elements as u64 * tensor.dtype.size();
                    if length <= INLINE_ZEROS {
                        proto.raw_data = Some(vec![0; length as usize]);
                    } else {
                        self.zeros = self.zeros.max(length);
                        point(&mut proto, self.zeros_file, 0, length);
                    }
                }
            }
            protos.push(proto);
        }
        protos
    }

    fn node(&mut self, node: &Node) -> Vec<NodeProto> {
        let mut input: Vec<String> = node.inputs.iter().map(|&v| self.name(v)).collect();
        self.add_operands(&node.op, &mut input);
        let mut output: Vec<String> = node.outputs.iter().map(|&v| self.name(v)).collect();
        if matches!(node.op, Op::LayerNormalization { .. }) && !self.statistics_used(node) {
            output.truncate(1);
        }
        if let Op::Contrib(op) = node.op {
            self.place_outputs(op, node, &mut output);
        }
        let domain = match node.op {
            Op::Contrib(_) => CONTRIB.0.into(),
            _ => String::new(),
        };
        let op_type = node.op.name();
        let name = self.unique(&format!("{}/{op_type}", node.scope));
        vec![NodeProto {
            input,
            output,
            name,
            op_type: op_type.into(),
            attribute: attributes(&node.op),
            domain,
        }]
    }

    /// Puts a fused operator's outputs into their places; those that nobody reads have no name.
    fn place_outputs(&self, op: Contrib, node: &Node, output: &mut Vec<String>) {
        let read = node.outputs.get(1).is_some_and(|v| self.used.contains(v));
        if !read {
            output.truncate(1);
        } else if matches!(op, Contrib::SkipLayerNormalization { .. }) {
            // Mean and deviation come before the sum.
            output.splice(1..1, [String::new(), String::new()]);
        }
    }

    fn statistics_used(&self, node: &Node) -> bool {
        node.outputs[1..].iter().any(|v| self.used.contains(v))
    }

    fn unique(&mut self, name: &str) -> String {
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            name.to_owned()
        } else {
            format!("{name}_{count}")
        }
    }

    /// A constant i64 operand.
    fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("i64{values:?}");
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, DType::I64, values.len(), raw)
    }

    fn constant(&mut self, name: String, dtype: DType, count: usize, raw: Vec<u8>) -> String {
        self.extra
            .entry(name.clone())
            .or_insert_with(|| TensorProto {
                dims: vec![count as i64],
                data_type: dtype.onnx(),
                name: name.clone(),
                raw_data: Some(raw),
                ..TensorProto::default()
            });
        name
    }

    /// Adds the operands that ONNX takes as constant inputs, and those that are absent.
    fn add_operands(&mut self, op: &Op, input: &mut Vec<String>) {
        match op {
            Op::Slice { axis, start, end } => {
                let bounds = [*start as i64, *end as i64, *axis as i64];
                input.extend(bounds.map(|n| self.integers(&[n])));
            }
            Op::Flip { axes } => {
                let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
                let n = axes.len();
                let operands = [vec![-1; n], vec![i64::MIN + 1; n], axes, vec![-1; n]];
                input.extend(operands.map(|operand| self.integers(&operand)));
            }
            Op::Upsample2x => self.add_scales([1.0, 1.0, 2.0, 2.0], input),
            Op::Upsample2xLast => self.add_scales([1.0, 2.0, 2.0, 1.0], input),
            Op::Pad { before, after } => {
                let pads: Vec<i64> = before.iter().chain(after).map(|&n| n as i64).collect();
                input.push(self.integers(&pads));
            }
            Op::Reduce { axes, .. } => {
                let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
                input.push(self.integers(&axes));
            }
            Op::Contrib(Contrib::MultiHeadAttention { .. }) if input.len() == 4 => {
                // Before the attention bias come the projections' bias and the padding mask.
                input.splice(3..3, [String::new(), String::new()]);
            }
            _ => {}
        }
    }

    /// Resize's operands: no region of interest, and a factor per axis.
    fn add_scales(&mut self, scales: [f32; 4], input: &mut Vec<String>) {
        let raw = scales.iter().flat_map(|v| v.to_le_bytes()).collect();
        input.push(String::new());
        input.push(self.constant(format!("f32{scales:?}"), DType::F32, 4, raw));
    }
}

fn point(proto: &mut TensorProto, location: &str, offset: u64, length: u64) {
    let pair = |key: &str, value: String| StringPair {
        key: key.into(),
        value,
    };
    proto.external_data = vec![
        pair("location", location.to_owned()),
        pair("offset", offset.to_string()),
        pair("length", length.to_string()),
    ];
    proto.data_location = Some(1);
}
