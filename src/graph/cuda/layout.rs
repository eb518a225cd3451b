//! Values in two layouts: as they stand in the graph, and with their channels last.

use super::Lowering;
use crate::graph::op::Contrib;
use crate::graph::{Conv, Dim, Graph, Node, Op, Origin, Result, Value};

/// Where an old value is in the new graph.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    plain: Option<Value>,
    /// With axis 1, the channels, moved to the end: [B, H, W, C] of [B, C, H, W], [B, N, C] of
    /// [B, C, N].
    last: Option<Value>,
}

/// Where each old value is.
pub(super) struct Layouts(Vec<Places>);

impl Layouts {
    /// Inputs and weights are where they were; nodes' results not yet.
    pub(super) fn new(old: &Graph) -> Self {
        let origins = old.tensors.iter().map(|t| &t.origin);
        let places = origins.enumerate().map(|(index, origin)| Places {
            plain: match origin {
                Origin::Node(_) => None,
                _ => Some(Value(index as u32)),
            },
            last: None,
        });
        Self(places.collect())
    }

    pub(super) fn set_plain(&mut self, old: Value, new: Value) {
        self.0[old.index()] = Places {
            plain: Some(new),
            last: None,
        };
    }

    pub(super) fn set_last(&mut self, old: Value, new: Value) {
        self.0[old.index()] = Places {
            plain: None,
            last: Some(new),
        };
    }

    pub(super) fn has_last(&self, old: Value) -> bool {
        self.0[old.index()].last.is_some()
    }

    /// The value as it stood.
    pub(super) fn plain(&mut self, g: &mut Graph, old: Value) -> Result<Value> {
        let places = self.0[old.index()];
        match (places.plain, places.last) {
            (Some(value), _) => Ok(value),
            (None, Some(last)) => {
                let perm: &[usize] = match g.rank(last) {
                    4 => &[0, 3, 1, 2],
                    _ => &[0, 2, 1],
                };
                let value = g.transpose(last, perm)?;
                self.0[old.index()].plain = Some(value);
                Ok(value)
            }
            (None, None) => Err(g.mismatch("Transpose", "a value that exists", &[old])),
        }
    }

    /// The value with its channels last; it has 3 or 4 axes.
    pub(super) fn last(&mut self, g: &mut Graph, old: Value) -> Result<Value> {
        if let Some(value) = self.0[old.index()].last {
            return Ok(value);
        }
        let plain = self.plain(g, old)?;
        let value = match g.shape(plain) {
            // One number per channel: moving the axis moves nothing.
            [b, c, h, w] if h.is(1) && w.is(1) => {
                let shape = [b.clone(), h.clone(), w.clone(), c.clone()];
                g.reshape(plain, &shape)?
            }
            [_, _, _, _] => g.transpose(plain, &[0, 2, 3, 1])?,
            _ => g.transpose(plain, &[0, 2, 1])?,
        };
        self.0[old.index()].last = Some(value);
        Ok(value)
    }
}

impl Lowering<'_> {
    /// Writes a node that works with the channels last, where its operands are so or it prefers it.
    pub(super) fn channels_last(&mut self, node: &Node) -> Result<bool> {
        let (x, y) = (node.inputs.first().copied(), node.outputs[0]);
        let Some(x) = x else { return Ok(false) };
        match &node.op {
            Op::Conv(conv) => return self.conv(node, *conv),
            Op::Transpose { perm } if *perm == [0, 2, 1] => return Ok(self.transposed(x, y)),
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

    /// An operation element by element, in the layout that an operand is in.
    pub(super) fn elementwise(&mut self, op: Op, inputs: &[Value], y: Value) -> Result<()> {
        let dtype = self.old.dtype(y);
        if !inputs.iter().any(|&v| self.at.has_last(v)) {
            let operands = self.plain_all(inputs)?;
            let shape = self.old.shape(y).to_vec();
            let new = self.g.push(op, &operands, dtype, shape);
            self.at.set_plain(y, new);
            return Ok(());
        }
        let operand = |this: &mut Self, v: Value| match this.old.rank(v) {
            0 => this.plain(v),
            _ => this.last(v),
        };
        let operands: Result<Vec<Value>> = inputs.iter().map(|&v| operand(self, v)).collect();
        let mut shape = self.old.shape(y).to_vec();
        shape[1..].rotate_left(1);
        let new = self.g.push(op, &operands?, dtype, shape);
        self.at.set_last(y, new);
        Ok(())
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

    /// [B, C, N] to [B, N, C] and back is only another name for what is there.
    fn transposed(&mut self, x: Value, y: Value) -> bool {
        let Places { plain, last } = self.at.0[x.index()];
        self.at.0[y.index()] = Places {
            plain: last,
            last: plain,
        };
        true
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
