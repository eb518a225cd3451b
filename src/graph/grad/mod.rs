//! Reverse-mode gradients of a built graph.
//!
//! The gradient of a graph is more nodes of the same graph, so whatever runs the forward pass runs
//! the backward pass too. Only the paths from the wanted values to the outputs are differentiated:
//! frozen weights get no gradient, and nothing flows below the first wanted value. Parts that were
//! built with [`Graph::checkpointed`] are computed again when their gradient is due (see [`replay`]).

mod adjoints;
mod replay;
mod rules;
mod segments;

use super::{Graph, Op, Result, Value};
use adjoints::Backward;
use rules::Operands;
use segments::Step;

/// Adds the nodes that compute `Σ seedᵢ · ∂outputᵢ/∂wrtⱼ` for each wanted value.
///
/// Each seed has its output's shape. A wanted value that no output depends on gets `None`.
pub fn gradients(
    graph: &mut Graph,
    outputs: &[(Value, Value)],
    wrt: &[Value],
) -> Result<Vec<Option<Value>>> {
    let steps = graph.steps();
    let mut backward = Backward::new(graph, wrt);
    for &(output, seed) in outputs {
        if backward.graph.shape(output) != backward.graph.shape(seed) {
            return Err(backward.graph.mismatch(
                "Gradient",
                "a seed of the output's shape",
                &[output, seed],
            ));
        }
        if backward.is_wanted(output) {
            backward.accumulate(output, seed)?;
        }
    }
    backward.sweep(&steps)?;
    wrt.iter().map(|&v| backward.adjoint(v)).collect()
}

impl Backward<'_> {
    /// Differentiates steps, last first.
    fn sweep(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps.iter().rev() {
            match step {
                Step::Node(index) => self.node(*index)?,
                Step::Segment(inner) => self.segment(inner)?,
            }
        }
        Ok(())
    }

    /// Lets the adjoint of a node's output flow into its operands.
    fn node(&mut self, index: usize) -> Result<()> {
        let node = self.graph.nodes[index].clone();
        // Only first outputs carry gradients; the others are statistics of the backward rules.
        let Some(dy) = self.adjoint(node.outputs[0])? else {
            return Ok(());
        };
        if let Op::Slice { axis, start, end } = node.op {
            self.accumulate_slice(node.inputs[0], (axis, start..end), dy);
            return Ok(());
        }
        let needs: Vec<bool> = node.inputs.iter().map(|&v| self.is_wanted(v)).collect();
        self.graph.push_scope(format!("grad.{}", node.scope));
        let operands = Operands {
            node: &node,
            dy,
            needs: &needs,
        };
        let contributions = self.graph.operand_gradients(&operands);
        for (operand, contribution) in contributions? {
            self.accumulate(operand, contribution)?;
        }
        self.graph.pop_scope();
        Ok(())
    }

    /// Computes a part again and differentiates that.
    fn segment(&mut self, part: &[Step]) -> Result<()> {
        let Some(replay) = self.replay(part)? else {
            return Ok(());
        };
        let start = self.flowed.len();
        self.sweep(&replay.steps)?;
        self.sweep(&replay.kept)?;
        self.finish(start, &replay)
    }
}
