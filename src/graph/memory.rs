//! How much memory a graph takes, before it is run.
//!
//! Tensors are counted as ONNX Runtime keeps them: from the node that makes them until the last
//! that reads them, in the order in which its CPU and CUDA executors run a graph, weights apart.
//! What its own fusions save and its kernels' work space costs is not known here, nor how an arena
//! rounds: the estimate is for comparing sizes and layouts.

use std::collections::HashSet;

use super::builder::{Node, Origin};
use super::{Graph, Op, Symbol, Value};

/// Bytes that a graph takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Weights, as the nodes take them: a cast or transposed weight counts as it is then.
    pub weights: u64,
    /// The most that computed tensors, outputs included, take at once.
    pub activations: u64,
    /// The largest single one.
    pub largest: u64,
}

impl Graph {
    /// Estimates the memory of a run at given sizes of the symbols.
    ///
    /// Nothing if a symbol's size isn't given.
    pub fn memory(&self, size: impl Fn(Symbol) -> Option<u64>) -> Option<Memory> {
        let bytes: Option<Vec<u64>> = self.values().map(|v| self.bytes(v, &size)).collect();
        let bytes = bytes?;
        let constant = self.constant_nodes();
        let order: Vec<usize> = self
            .execution_order()
            .into_iter()
            .filter(|&n| !constant[n])
            .collect();
        let (activations, largest) = self.peak(&order, &bytes);
        Some(Memory {
            weights: self.weight_bytes(&order, &bytes),
            activations,
            largest,
        })
    }

    /// The symbol of that name.
    pub fn symbol_named(&self, name: &str) -> Option<Symbol> {
        let index = self.symbols.iter().position(|s| s.name == name)?;
        Some(Symbol(index as u16))
    }

    /// Per node: whether the runtime computes it once, when it loads the graph.
    fn constant_nodes(&self) -> Vec<bool> {
        let mut constant = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            constant[index] = node.inputs.iter().all(|v| self.is_constant(*v, &constant));
        }
        constant
    }

    fn is_constant(&self, value: Value, constant: &[bool]) -> bool {
        match self.tensors[value.index()].origin {
            Origin::Initializer { .. } => true,
            Origin::Input { .. } => false,
            Origin::Node(node) => constant[node],
        }
    }

    /// Bytes of the constants that the nodes to run read, each once.
    fn weight_bytes(&self, order: &[usize], bytes: &[u64]) -> u64 {
        let run: HashSet<usize> = order.iter().copied().collect();
        let read: HashSet<Value> = order
            .iter()
            .flat_map(|&n| self.nodes[n].inputs.iter().copied())
            .filter(|v| match &self.tensors[v.index()].origin {
                Origin::Node(node) => !run.contains(node),
                Origin::Initializer { .. } => true,
                Origin::Input { default, .. } => default.is_some(),
            })
            .collect();
        let bytes = read.iter().map(|v| bytes[v.index()]);
        bytes.fold(0, u64::saturating_add)
    }

    /// The most bytes alive at once, and the largest tensor.
    fn peak(&self, order: &[usize], bytes: &[u64]) -> (u64, u64) {
        let readers = self.readers(order);
        let mut buffers = Buffers {
            owner: self.values().collect(),
            uses: readers.clone(),
        };
        let (mut alive, mut most, mut largest) = (0_u64, 0_u64, 0_u64);
        let mut computed = vec![false; self.tensors.len()];
        for node in order.iter().map(|&n| &self.nodes[n]) {
            let shared = self.shared_buffer(node, &buffers, &computed);
            for (i, &output) in node.outputs.iter().enumerate() {
                computed[output.index()] = true;
                if let (0, Some(owner)) = (i, shared) {
                    buffers.owner[output.index()] = owner;
                    buffers.uses[owner.index()] += readers[output.index()];
                } else {
                    alive = alive.saturating_add(bytes[output.index()]);
                    largest = largest.max(bytes[output.index()]);
                }
            }
            most = most.max(alive);
            for &input in &node.inputs {
                let owner = buffers.owner[input.index()];
                buffers.uses[owner.index()] -= 1;
                if buffers.uses[owner.index()] == 0 && computed[owner.index()] {
                    alive = alive.saturating_sub(bytes[owner.index()]);
                }
            }
            for &output in &node.outputs {
                let own = buffers.owner[output.index()] == output;
                if own && readers[output.index()] == 0 {
                    alive = alive.saturating_sub(bytes[output.index()]);
                }
            }
        }
        (most, largest)
    }

    /// Per value: how often the nodes to run read it, and once more for an output, which is never
    /// freed.
    fn readers(&self, order: &[usize]) -> Vec<usize> {
        let mut readers = vec![0_usize; self.tensors.len()];
        let operands = order.iter().flat_map(|&n| &self.nodes[n].inputs);
        for value in operands.chain(self.outputs.iter().map(|(_, v)| v)) {
            readers[value.index()] += 1;
        }
        readers
    }

    /// The buffer that a node's first output is written to, if it is an operand's: a reshape is
    /// only another view, and element by element an operand is written over by its last reader.
    fn shared_buffer(&self, node: &Node, buffers: &Buffers, computed: &[bool]) -> Option<Value> {
        let owner = |v: Value| buffers.owner[v.index()];
        let mut operands = node.inputs.iter().copied();
        let shared = match &node.op {
            Op::Reshape => operands.next(),
            Op::Unary(_) | Op::Binary(_) | Op::Softmax { .. } => operands.find(|&v| {
                let alike = |v: Value| (self.shape(v), self.dtype(v));
                buffers.uses[owner(v).index()] == 1 && alike(v) == alike(node.outputs[0])
            }),
            _ => None,
        };
        shared.map(owner).filter(|v| computed[v.index()])
    }

    /// The order in which ONNX Runtime runs the nodes: depth first from those that nothing
    /// follows, operands before their node (`Graph::ReverseDFSFrom`, the default order).
    fn execution_order(&self) -> Vec<usize> {
        let mut followed = vec![false; self.nodes.len()];
        let mut before: Vec<Vec<usize>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let mut operands: Vec<usize> = node
                .inputs
                .iter()
                .filter_map(|v| match self.tensors[v.index()].origin {
                    Origin::Node(n) => Some(n),
                    _ => None,
                })
                .collect();
            operands.sort_unstable();
            operands.dedup();
            operands.iter().for_each(|&n| followed[n] = true);
            before.push(operands);
        }
        let mut stack: Vec<(usize, bool)> = (0..self.nodes.len())
            .filter(|&n| !followed[n])
            .map(|n| (n, false))
            .collect();
        let mut visited = vec![false; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some((node, left)) = stack.pop() {
            if left {
                order.push(node);
            } else if !std::mem::replace(&mut visited[node], true) {
                stack.push((node, true));
                let operands = before[node].iter().filter(|&&n| !visited[n]);
                stack.extend(operands.map(|&n| (n, false)));
            }
        }
        order
    }
}

/// Which buffers hold what, as far as a run has come.
struct Buffers {
    /// Per value: the value whose buffer holds it.
    owner: Vec<Value>,
    /// Per buffer: readers still to come.
    uses: Vec<usize>,
}
