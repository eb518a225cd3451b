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
//! layouts ([`layout`]), as it stands in the graph and with its channels last, and an operation is
//! done in the layout that its operands are in already; a Transpose is added only where an operation
//! needs the other one. In a UNet what is left of them stands at its ends.

mod channels_last;
mod fused;
mod kernels;
mod layout;
mod lowering;
mod patterns;
#[cfg(test)]
mod tests;

use super::builder::Node;
use super::{DType, Graph, Op, Result};
pub use kernels::Lack;
use layout::Layouts;
use lowering::Lowering;
use patterns::Patterns;

impl Graph {
    /// Replaces what CUDA has fused operators for; the graph then needs ONNX Runtime's CUDA provider.
    /// Inputs, outputs and what they mean stay the same.
    ///
    /// # Errors
    /// A graph in bf16, for which most of these operators have no kernels.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method alone is of one lifetime, not of any"
    )]
    pub fn lower_for_cuda(&mut self) -> Result<()> {
        let bf16 = self.values().find(|&v| self.dtype(v) == DType::BF16);
        if let Some(value) = bf16 {
            let expected = "f32 or f16, which CUDA has fused kernels for";
            return Err(self.mismatch("GroupNorm", expected, &[value]));
        }
        self.rewrite(|lowering, node| lowering.node(node))
    }

    /// Replaces attention alone, in forward and training graphs of any type: its scores are then never written. A
    /// backward pass that reads them computes them from what the operator takes.
    pub(super) fn fuse_attention(&mut self) -> Result<()> {
        self.rewrite(|lowering, node| {
            let y = node.outputs[0];
            match node.op == Op::Reshape && lowering.attention(y)? {
                true => Ok(()),
                false => lowering.as_it_is(node),
            }
        })
    }

    /// Writes the graph anew, node by node.
    fn rewrite(&mut self, write: impl Fn(&mut Lowering<'_>, &Node) -> Result<()>) -> Result<()> {
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
            write(&mut lowering, node)?;
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

impl Lowering<'_> {
    /// Writes a node anew.
    fn node(&mut self, node: &Node) -> Result<()> {
        match self.fused(node)? || self.channels_last(node)? {
            true => Ok(()),
            false => self.as_it_is(node),
        }
    }

    /// Writes a node as it stood.
    fn as_it_is(&mut self, node: &Node) -> Result<()> {
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
}
