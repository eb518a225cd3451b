//! What is done with the channels last.

use super::lowering::Lowering;
use crate::graph::builder::Node;
use crate::graph::{Contrib, Conv, Dim, Op, Result, Value};

impl Lowering<'_> {
    /// Writes a node that works with the channels last, where its operands are so or it prefers it.
    pub(super) fn channels_last(&mut self, node: &Node) -> Result<bool> {
        let (x, y) = (node.inputs.first().copied(), node.outputs[0]);
        let Some(x) = x else { return Ok(false) };
        match &node.op {
            Op::Conv(conv) => return self.conv(node, *conv),
            Op::Transpose { perm } if *perm == [0, 2, 1] => self.at.exchange(x, y),
            _ if !node.inputs.iter().any(|&v| self.at.has_last(v)) => return Ok(false),
            Op::Unary(_) | Op::Cast(_) => self.elementwise(node.op.clone(), &node.inputs, y)?,
            Op::Binary(_) if self.broadcasts_per_channel(node) => {
                self.elementwise(node.op.clone(), &node.inputs, y)?;
            }
            Op::Concat { axis: 1 } => {
                let parts: Result<Vec<Value>> = node.inputs.iter().map(|&v| self.last(v)).collect();
                let axis = self.old.rank(y) - 1;
                let joined = self.g.concat(&parts?, axis)?;
                self.at.set_last(y, joined);
            }
            Op::Upsample2x => {
                let x = self.last(x)?;
                let [b, h, w, c] = [0, 1, 2, 3].map(|i| self.g.shape(x)[i].clone());
                let two = Dim::from(2_u64);
                let shape = vec![b, h.times(&two), w.times(&two), c];
                let dtype = self.old.dtype(y);
                let doubled = self.g.push(Op::Upsample2xLast, &[x], dtype, shape);
                self.at.set_last(y, doubled);
            }
            Op::Reshape if self.at.has_last(x) => return self.flattened(x, y),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether all operands have the result's axes, or none: then moving the channels of each keeps
    /// what meets what.
    fn broadcasts_per_channel(&self, node: &Node) -> bool {
        let rank = self.old.rank(node.outputs[0]);
        let fits = |&v: &Value| [0, rank].contains(&self.old.rank(v));
        node.inputs.iter().all(fits)
    }

    /// A convolution; its weight is transposed once, at load.
    fn conv(&mut self, node: &Node, conv: Conv) -> Result<bool> {
        let [top, left, bottom, right] = conv.pads;
        // The CUDA kernel pads both sides alike.
        if conv.group != 1 || (top, left) != (bottom, right) {
            return Ok(false);
        }
        let x = self.last(node.inputs[0])?;
        let weight = self.plain(node.inputs[1])?;
        let mut operands = vec![x, self.g.transpose(weight, &[0, 2, 3, 1])?];
        if let Some(&bias) = node.inputs.get(2) {
            operands.push(self.plain(bias)?);
        }
        let y = node.outputs[0];
        let mut shape = self.old.shape(y).to_vec();
        shape[1..].rotate_left(1);
        let dtype = self.old.dtype(y);
        let op = Op::Contrib(Contrib::NhwcConv(conv));
        let new = self.g.push(op, &operands, dtype, shape);
        self.at.set_last(y, new);
        Ok(true)
    }

    /// Pictures to rows of positions and back, channels last all the while.
    fn flattened(&mut self, x: Value, y: Value) -> Result<bool> {
        let (from, to) = (self.old.shape(x), self.old.shape(y));
        let ranks = (from.len(), to.len());
        if !matches!(ranks, (3, 4) | (4, 3)) || from[..2] != to[..2] {
            return Ok(false);
        }
        let mut shape = to.to_vec();
        shape[1..].rotate_left(1);
        let x = self.last(x)?;
        let new = self.g.reshape(x, &shape)?;
        self.at.set_last(y, new);
        Ok(true)
    }
}
