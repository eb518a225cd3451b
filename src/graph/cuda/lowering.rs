//! A graph being written anew: what all ways of writing a node use.

use super::layout::Layouts;
use super::patterns::Patterns;
use crate::graph::{Contrib, Graph, Op, Result, Value};

/// A graph being written anew.
pub(super) struct Lowering<'a> {
    pub(super) old: &'a Graph,
    pub(super) g: &'a mut Graph,
    pub(super) at: Layouts,
    pub(super) patterns: Patterns<'a>,
}

impl Lowering<'_> {
    pub(super) fn plain(&mut self, v: Value) -> Result<Value> {
        self.at.plain(self.g, v)
    }

    pub(super) fn last(&mut self, v: Value) -> Result<Value> {
        self.at.last(self.g, v)
    }

    pub(super) fn plain_all(&mut self, values: &[Value]) -> Result<Vec<Value>> {
        values.iter().map(|&v| self.plain(v)).collect()
    }

    /// Adds a fused operation whose result is of the shape and type of an old value.
    pub(super) fn push(&mut self, op: Contrib, inputs: &[Value], like: Value) -> Value {
        let shape = self.old.shape(like).to_vec();
        let dtype = self.old.dtype(like);
        self.g.push(Op::Contrib(op), inputs, dtype, shape)
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
}
