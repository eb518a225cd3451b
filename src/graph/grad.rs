//! Reverse-mode gradients of a built graph.
//!
//! The gradient of a graph is more nodes of the same graph, so whatever runs the forward pass runs
//! the backward pass too. Only the paths from the wanted values to the outputs are differentiated:
//! frozen weights get no gradient, and nothing flows below the first wanted value.

use std::collections::HashMap;

use super::grad_rules::Operands;
use super::{Graph, Origin, Result, Value};

/// Adds the nodes that compute `Σ seedᵢ · ∂outputᵢ/∂wrtⱼ` for each wanted value.
///
/// Each seed has its output's shape. A wanted value that no output depends on gets `None`.
pub fn gradients(
    graph: &mut Graph,
    outputs: &[(Value, Value)],
    wrt: &[Value],
) -> Result<Vec<Option<Value>>> {
    let wanted = graph.depends_on(wrt);
    let mut adjoints: HashMap<Value, Value> = HashMap::new();
    for &(output, seed) in outputs {
        if graph.shape(output) != graph.shape(seed) {
            return Err(graph.mismatch(
                "Gradient",
                "a seed of the output's shape",
                &[output, seed],
            ));
        }
        if wanted[output.index()] {
            accumulate(graph, &mut adjoints, output, seed)?;
        }
    }
    let forward = graph.nodes.len();
    for index in (0..forward).rev() {
        let node = graph.nodes[index].clone();
        // Only first outputs carry gradients; the others are statistics of the backward rules.
        let Some(&dy) = adjoints.get(&node.outputs[0]) else {
            continue;
        };
        let needs: Vec<bool> = node.inputs.iter().map(|v| wanted[v.index()]).collect();
        graph.push_scope(format!("grad.{}", node.scope));
        let operands = Operands {
            node: &node,
            dy,
            needs: &needs,
        };
        let contributions = graph.operand_gradients(&operands);
        for (operand, contribution) in contributions? {
            accumulate(graph, &mut adjoints, operand, contribution)?;
        }
        graph.pop_scope();
    }
    Ok(wrt.iter().map(|v| adjoints.get(v).copied()).collect())
}

fn accumulate(
    graph: &mut Graph,
    adjoints: &mut HashMap<Value, Value>,
    to: Value,
    contribution: Value,
) -> Result<()> {
    let sum = match adjoints.get(&to) {
        Some(&before) => graph.add(before, contribution)?,
        None => contribution,
    };
    adjoints.insert(to, sum);
    Ok(())
}

impl Graph {
    /// Per value: whether it is one of `roots` or computed from one.
    fn depends_on(&self, roots: &[Value]) -> Vec<bool> {
        let mut marked = vec![false; self.tensors.len()];
        for root in roots {
            marked[root.index()] = true;
        }
        for (index, tensor) in self.tensors.iter().enumerate() {
            if let Origin::Node(node) = tensor.origin {
                marked[index] |= self.nodes[node].inputs.iter().any(|v| marked[v.index()]);
            }
        }
        marked
    }
}
