//! Lowering a forward graph to the fused operators that ONNX Runtime has for CUDA.
//!
//! The networks are written once, with standard operators. Here the finished graph is walked in
//! order and written anew: where a fused operator computes what a group of nodes does
//! ([`patterns`]), the last of them becomes that operator and the rest, now unread, is dropped by
//! [`Graph::optimize`]. Which fusions pay is what ONNX Runtime's own optimizer for Stable Diffusion
//! does (`onnxruntime/transformers/onnx_model_unet.py`); each kernel's limits are those of its
//! source (`contrib_ops/cuda/diffusion`), and where they don't hold the nodes stay as they are.
//!
//! GroupNorm and NhwcConv take pictures with channels last. Every value may therefore exist in two
//! layouts ([`Layouts`]), as it stands in the graph and with its channels last, and an operation is
//! done in the layout that its operands are in already; a Transpose is added only where an operation
//! needs the other one. In a UNet what is left of them stands at its ends.

mod layout;
mod patterns;
#[cfg(test)]
mod tests;

use super::op::Contrib;
use super::{Binary, DType, Dim, Graph, Node, Op, Result, Unary, Value};
use layout::Layouts;
use patterns::{GroupNorm, Patterns};

impl Graph {
    /// Replaces what CUDA has fused operators for; the graph then needs ONNX Runtime's CUDA provider.
    /// Inputs, outputs and what they mean stay the same.
    ///
    /// # Errors
    /// A graph in bf16, for which most of these operators have no kernels.
    pub fn lower_for_cuda(&mut self) -> Result<()> {
        let bf16 = (0..self.tensors.len() as u32)
            .map(Value)
            .find(|&v| self.dtype(v) == DType::BF16);
        if let Some(value) = bf16 {
            let expected = "f32 or f16, which CUDA has fused kernels for";
            return Err(self.mismatch("GroupNorm", expected, &[value]));
        }
        let old = self.clone();
        let nodes = std::mem::take(&mut self.nodes);
        let scope = std::mem::take(&mut self.scope);
        let mut lowering = Lowering {
            patterns: Patterns::new(&old),
            at: Layouts::new(&old),
            old: &old,
            g: self,
        };
        for node in &nodes {
            lowering.g.scope = vec![node.scope.to_string()];
            lowering.node(node)?;
        }
        for index in 0..old.outputs.len() {
            let value = lowering.at.plain(lowering.g, old.outputs[index].1)?;
            lowering.g.outputs[index].1 = value;
        }
        self.scope = scope;
        self.optimize();
        Ok(())
    }
}

/// A graph being written anew.
struct Lowering<'a> {
    old: &'a Graph,
    g: &'a mut Graph,
    at: Layouts,
    patterns: Patterns<'a>,
}

impl Lowering<'_> {
    fn node(&mut self, node: &Node) -> Result<()> {
        if self.fused(node)? || self.channels_last(node)? {
            return Ok(());
        }
        let inputs = self.plain_all(&node.inputs)?;
        let shapes = node.outputs.iter().map(|&v| {
            let shape = self.old.shape(v).to_vec();
            (self.old.dtype(v), shape)
        });
        let shapes = shapes.collect();
        let outputs = self.g.push_multi(node.op.clone(), &inputs, shapes);
        for (&old, new) in node.outputs.iter().zip(outputs) {
            self.at.set_plain(old, new);
        }
        Ok(())
    }

    fn plain(&mut self, v: Value) -> Result<Value> {
        self.at.plain(self.g, v)
    }

    fn last(&mut self, v: Value) -> Result<Value> {
        self.at.last(self.g, v)
    }

    fn plain_all(&mut self, values: &[Value]) -> Result<Vec<Value>> {
        values.iter().map(|&v| self.plain(v)).collect()
    }

    /// Adds a fused operation whose result is of the shape and type of an old value.
    fn push(&mut self, op: Contrib, inputs: &[Value], like: Value) -> Value {
        let shape = self.old.shape(like).to_vec();
        let dtype = self.old.dtype(like);
        self.g.push(Op::Contrib(op), inputs, dtype, shape)
    }

    /// Writes the fused operator that a node is the last of, if there is one.
    fn fused(&mut self, node: &Node) -> Result<bool> {
        let y = node.outputs[0];
        match &node.op {
            Op::Binary(Binary::Mul) => Ok(self.silu(y)? || self.gated(y)? || self.quick_gelu(y)?),
            Op::Binary(Binary::Add) => match self.patterns.group_norm(y) {
                Some(norm) if !self.patterns.only_for_silu(y) => self.group_norm(y, &norm, false),
                _ => self.bias_add(y),
            },
            Op::Unary(Unary::Gelu) => self.bias_gelu(y),
            Op::Reshape => self.attention(y),
            Op::LayerNormalization { epsilon, .. } => self.skip_layer_norm(node, *epsilon),
            _ => Ok(false),
        }
    }

    /// A group normalisation with the SiLU behind it.
    fn silu(&mut self, y: Value) -> Result<bool> {
        let normal = self.patterns.silu(y);
        match normal.and_then(|x| self.patterns.group_norm(x)) {
            Some(norm) => self.group_norm(y, &norm, true),
            None => Ok(false),
        }
    }

    fn group_norm(&mut self, y: Value, norm: &GroupNorm, silu: bool) -> Result<bool> {
        let gamma = self.single(norm.gamma)?;
        let beta = self.single(norm.beta)?;
        let (groups, epsilon) = (norm.groups, norm.epsilon);
        if let Some((a, skip)) = norm.sum {
            let operands = [self.last(a)?, gamma, beta, self.last(skip)?];
            let op = Contrib::SkipGroupNorm {
                groups,
                epsilon,
                silu,
            };
            let shape = self.g.shape(operands[0]).to_vec();
            let dtype = self.old.dtype(y);
            let outputs = vec![(dtype, shape.clone()), (dtype, shape)];
            let outputs = self.g.push_multi(Op::Contrib(op), &operands, outputs);
            self.at.set_last(y, outputs[0]);
            // Whoever reads the sum later reads it from here.
            self.at.set_last(norm.x, outputs[1]);
            return Ok(true);
        }
        let x = self.last(norm.x)?;
        let shape = self.g.shape(x).to_vec();
        // The kernel takes pictures; positions in a row are one of height n and width 1.
        let picture = match shape.as_slice() {
            [b, n, c] => vec![b.clone(), n.clone(), 1.into(), c.clone()],
            _ => shape.clone(),
        };
        let x = self.g.reshape(x, &picture)?;
        let op = Contrib::GroupNorm {
            groups,
            epsilon,
            silu,
        };
        let dtype = self.old.dtype(y);
        let operands = [x, gamma, beta];
        let normal = self.g.push(Op::Contrib(op), &operands, dtype, picture);
        let normal = self.g.reshape(normal, &shape)?;
        self.at.set_last(y, normal);
        Ok(true)
    }

    /// A parameter in f32, as it is stored if it is stored so.
    fn single(&mut self, parameter: Value) -> Result<Value> {
        let stored = self.patterns.stored(parameter);
        let stored = self.plain(stored)?;
        self.g.cast(stored, DType::F32)
    }

    /// The two halves of a gated feed-forward layer as one product and one operator.
    fn gated(&mut self, y: Value) -> Result<bool> {
        let Some(found) = self.patterns.gated(y) else {
            return Ok(false);
        };
        let compute = self.old.dtype(y);
        let weight = self.both(found.weights)?;
        let weight = self.g.cast(weight, compute)?;
        let weight = self.g.transpose(weight, &[1, 0])?;
        let bias = self.both(found.biases)?;
        let bias = self.g.cast(bias, compute)?;
        let x = self.plain(found.x)?;
        let product = self.g.matmul(x, weight)?;
        let gated = self.push(Contrib::BiasSplitGelu, &[product, bias], y);
        self.at.set_plain(y, gated);
        Ok(true)
    }

    /// Two initializers that lie behind each other in their file, as one.
    fn both(&mut self, [first, second]: [Value; 2]) -> Result<Value> {
        let Some((name, data)) = self.patterns.joined(first, second) else {
            return Err(self
                .old
                .mismatch("Concat", "neighbours in a file", &[first, second]));
        };
        let mut shape: Vec<u64> = self
            .old
            .shape(first)
            .iter()
            .filter_map(Dim::fixed)
            .collect();
        shape[0] *= 2;
        let dtype = self.old.dtype(first);
        Ok(self.g.initializer(&name, dtype, &shape, data))
    }

    fn bias_gelu(&mut self, y: Value) -> Result<bool> {
        let Some((x, bias)) = self.patterns.bias_gelu(y) else {
            return Ok(false);
        };
        let operands = self.plain_all(&[x, bias])?;
        let new = self.push(Contrib::BiasGelu, &operands, y);
        self.at.set_plain(y, new);
        Ok(true)
    }

    fn quick_gelu(&mut self, y: Value) -> Result<bool> {
        let Some((x, alpha)) = self.patterns.quick_gelu(y) else {
            return Ok(false);
        };
        let op = Op::Contrib(Contrib::QuickGelu { alpha });
        self.elementwise(op, &[x], y)?;
        Ok(true)
    }

    fn bias_add(&mut self, y: Value) -> Result<bool> {
        let Some(operands) = self.patterns.bias_add(y) else {
            return Ok(false);
        };
        let operands = self.plain_all(&operands)?;
        let new = self.push(Contrib::BiasAdd, &operands, y);
        self.at.set_plain(y, new);
        Ok(true)
    }

    fn attention(&mut self, y: Value) -> Result<bool> {
        let Some(found) = self.patterns.attention(y) else {
            return Ok(false);
        };
        let mut operands = self.plain_all(&found.qkv)?;
        if let Some(mask) = found.mask {
            let mask = self.plain(mask)?;
            let [n, m] = [0, 1].map(|i| self.g.shape(mask)[i].clone());
            operands.push(self.g.reshape(mask, &[1.into(), 1.into(), n, m])?);
        }
        let heads = found.heads;
        let new = self.push(Contrib::MultiHeadAttention { heads }, &operands, y);
        self.at.set_plain(y, new);
        Ok(true)
    }

    fn skip_layer_norm(&mut self, node: &Node, epsilon: f32) -> Result<bool> {
        let y = node.outputs[0];
        let Some(found) = self.patterns.skip_layer_norm(node) else {
            return Ok(false);
        };
        let mut operands = vec![found.x, found.skip, node.inputs[1], node.inputs[2]];
        operands.extend(found.bias);
        let operands = self.plain_all(&operands)?;
        let shape = self.old.shape(y).to_vec();
        let dtype = self.old.dtype(y);
        let outputs = vec![(dtype, shape.clone()), (dtype, shape)];
        let op = Op::Contrib(Contrib::SkipLayerNormalization { epsilon });
        let outputs = self.g.push_multi(op, &operands, outputs);
        self.at.set_plain(y, outputs[0]);
        self.at.set_plain(node.inputs[0], outputs[1]);
        Ok(true)
    }
}
