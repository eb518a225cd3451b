//! A graph of fixed sizes, fitted to the one job that it is made for.
//!
//! What a runtime's passes over a graph would find is done here, once and in no time: they take ONNX
//! Runtime half a second each for SDXL's training graph, and sixty of them run. Nothing is left that
//! computes on weights alone, no two reshapes or transpositions follow each other, and the file's order is
//! the one that needs least memory.

use super::builder::{Node, Origin};
use super::{DType, Data, Dim, Graph, Op, Operators, Result, Value};

/// What a graph does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Computes its outputs and forgets the rest.
    Forward,
    /// Keeps values for a backward pass.
    Training,
}

impl Graph {
    /// Fits a finished graph to what [`Graph::made_for`] says; nothing is done to one that anybody may run.
    /// Inputs, outputs and what they mean stay the same.
    ///
    /// # Errors
    /// What lowering to fused operators refuses.
    pub fn specialise(&mut self, kind: Kind) -> Result<()> {
        let Some(operators) = self.made_for else {
            return Ok(());
        };
        if operators == Operators::Cuda {
            let bf16 = self.values().any(|v| self.dtype(v) == DType::BF16);
            match kind == Kind::Forward && !bf16 {
                true => self.lower_for_cuda()?,
                false => self.fuse_attention()?,
            }
        }
        self.choose_products(operators)?;
        self.tidy();
        self.order_leaves();
        Ok(())
    }

    /// Writes what no runtime has kernels for in bf16 otherwise: doubling by joining, and the gradients of
    /// convolutions in f32 (ONNX Runtime's CUDA provider has neither Resize nor ConvTranspose).
    ///
    /// # Errors
    /// None in a graph that was built.
    pub fn without_bf16_gaps(&mut self) -> Result<()> {
        let gap = |g: &Self, node: &Node| {
            let op = matches!(node.op, Op::Upsample2x | Op::ConvTranspose { .. });
            op && g.dtype(node.outputs[0]) == DType::BF16
        };
        if !self.nodes.iter().any(|node| gap(self, node)) {
            return Ok(());
        }
        for mut node in std::mem::take(&mut self.nodes) {
            if !gap(self, &node) {
                self.nodes.push(node);
                continue;
            }
            self.scope = vec![node.scope.to_string()];
            let y = node.outputs[0];
            let last = match node.op {
                Op::Upsample2x => self.doubled(node.inputs[0])?,
                _ => {
                    let shape = self.shape(y).to_vec();
                    for input in &mut node.inputs {
                        *input = self.cast(*input, DType::F32)?;
                    }
                    let wide = self.push(node.op.clone(), &node.inputs, DType::F32, shape);
                    (Op::Cast(DType::BF16), vec![wide])
                }
            };
            let (op, inputs) = last;
            self.nodes.push(Node { op, inputs, ..node });
        }
        self.scope.clear();
        self.relink();
        Ok(())
    }

    /// Every pixel of [B, C, H, W] beside itself and every row below itself: what comes before the last
    /// operation, and that.
    fn doubled(&mut self, x: Value) -> Result<(Op, Vec<Value>)> {
        let [b, c, h, w] = [0, 1, 2, 3].map(|i| self.shape(x)[i].clone());
        let (one, two) = (Dim::from(1_u64), Dim::from(2_u64));
        let wide = w.times(&two);
        let pixels = self.reshape(x, &[b.clone(), c.clone(), h.clone(), w, one.clone()])?;
        let pixels = self.concat(&[pixels, pixels], 4)?;
        let rows = self.reshape(
            pixels,
            &[b.clone(), c.clone(), h.clone(), one, wide.clone()],
        )?;
        let rows = self.concat(&[rows, rows], 3)?;
        let shape = self.reshape_target(rows, &[b, c, h.times(&two), wide])?;
        Ok((Op::Reshape, vec![rows, shape]))
    }

    /// How many values have a size that isn't a number.
    pub fn free_sizes(&self) -> usize {
        let free = |v: &Value| self.shape(*v).iter().any(|d| d.fixed().is_none());
        self.values().filter(free).count()
    }

    /// The operations on large weights alone, by what they are and where: what a runtime would fold when it
    /// loads the graph, or compute at every run.
    pub fn on_weights_alone(&self) -> Vec<String> {
        let weight = |v: &Value| {
            let external = matches!(
                &self.tensors[v.index()].origin,
                Origin::Initializer {
                    data: Data::External { .. },
                    ..
                }
            );
            external && self.rank(*v) > 1
        };
        let mut alone = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            let of_weights = |v: &Value| {
                let made = self.node_of(*v).is_some_and(|n| alone[n]);
                made || weight(v)
            };
            let constant =
                |v: &Value| matches!(self.tensors[v.index()].origin, Origin::Initializer { .. });
            let mut inputs = node.inputs.iter();
            alone[index] =
                inputs.clone().any(of_weights) && inputs.all(|v| of_weights(v) || constant(v));
        }
        let found = self.nodes.iter().zip(&alone).filter(|(_, alone)| **alone);
        found
            .map(|(node, _)| format!("{} at {}", node.op.name(), node.scope))
            .collect()
    }

    /// Puts the nodes that nobody reads, gradients mostly, to the end of the file, those that are known last
    /// first. ONNX Runtime goes depth first from such nodes, the file's last first: so each gradient is
    /// computed as soon as it can be, and what it is made of is not kept for the end.
    fn order_leaves(&mut self) {
        let mut read = vec![false; self.tensors.len()];
        for node in &self.nodes {
            node.inputs.iter().for_each(|v| read[v.index()] = true);
        }
        let known = |node: &Node| {
            let made = node.inputs.iter().filter_map(|v| self.node_of(*v));
            made.max().unwrap_or(0)
        };
        let (mut inner, mut leaves) = (Vec::new(), Vec::new());
        for node in &self.nodes {
            match node.outputs.iter().any(|v| read[v.index()]) {
                true => inner.push(node.clone()),
                false => leaves.push((known(node), node.clone())),
            }
        }
        leaves.sort_by_key(|(known, _)| std::cmp::Reverse(*known));
        inner.extend(leaves.into_iter().map(|(_, node)| node));
        self.nodes = inner;
        self.relink();
    }
}
