//! Nodes that become fused operators.

use super::lowering::Lowering;
use super::patterns::GroupNorm;
use crate::graph::builder::Node;
use crate::graph::{Binary, Contrib, DType, Dim, Op, Real, Result, Unary, Value};

impl Lowering<'_> {
    /// Writes the fused operator that a node is the last of, if there is one.
    pub(super) fn fused(&mut self, node: &Node) -> Result<bool> {
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
        let op = Op::Contrib(Contrib::QuickGelu {
            alpha: alpha.into(),
        });
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

    pub(super) fn attention(&mut self, y: Value) -> Result<bool> {
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

    fn skip_layer_norm(&mut self, node: &Node, epsilon: Real) -> Result<bool> {
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
