//! Passes over a finished graph: constants are folded, equal operations merged, dead ones dropped.
//!
//! Merging is what lets `unet_grad` write its reference and policy forwards as two calls of one
//! function: everything both share becomes one set of nodes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::builder::{Node, Origin};
use super::{Binary, DType, Data, Dim, Graph, Op, Unary, Value};

/// A constant's type, shape and bytes.
type Constant = (DType, Vec<u64>, Arc<[u8]>);

/// What becomes of operations that follow each other and could be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    /// They stay.
    Kept,
    /// They become one.
    Composed,
}

/// What a sweep has come past.
#[derive(Default)]
struct Seen {
    /// The node that does an operation on these operands.
    nodes: HashMap<(Op, Vec<Value>), usize>,
    /// What was folded to a constant.
    constants: HashMap<Constant, Value>,
}

impl Graph {
    /// Folds small constants, merges equal operations and weights, lowers [`Op::PerSample`], and
    /// drops what no output needs. Values handed out before stay valid only if they are inputs or
    /// outputs.
    pub fn optimize(&mut self) {
        self.merge_and_fold(Meeting::Kept);
        self.lower_per_sample();
        self.merge_and_fold(Meeting::Kept);
        self.drop_dead();
    }

    /// The same once more for a graph that is written as it is: transpositions and reshapes that follow each
    /// other become one, and weights are declared in the shape that they are read in. Until then they stay
    /// apart, for whoever looks for patterns.
    pub(super) fn tidy(&mut self) {
        self.merge_and_fold(Meeting::Composed);
        self.drop_dead();
    }

    /// One sweep in topological order: each node's operands are replaced by their canonical
    /// values, then the node is folded, or merged with an equal one, or kept.
    fn merge_and_fold(&mut self, meeting: Meeting) {
        let mut canonical: Vec<Value> = self.values().collect();
        self.merge_initializers(&mut canonical);
        let mut seen = Seen::default();
        for index in 0..self.nodes.len() {
            for i in 0..self.nodes[index].inputs.len() {
                let input = self.nodes[index].inputs[i];
                self.nodes[index].inputs[i] = canonical[input.index()];
            }
            if meeting == Meeting::Composed {
                self.compose(index);
            }
            let node = self.nodes[index].clone();
            let redeclared = match meeting {
                Meeting::Composed => self.redeclared(&node),
                Meeting::Kept => None,
            };
            if let Some(value) = redeclared {
                canonical.push(value);
                canonical[node.outputs[0].index()] = value;
                continue;
            }
            if let Some(replacement) = self.simplified(&node, &mut seen, &mut canonical) {
                canonical[node.outputs[0].index()] = replacement;
                continue;
            }
            match seen.nodes.entry((node.op, node.inputs)) {
                Entry::Occupied(first) => {
                    let firsts = &self.nodes[*first.get()].outputs;
                    for (mine, theirs) in node.outputs.iter().zip(firsts) {
                        canonical[mine.index()] = *theirs;
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(index);
                }
            }
        }
        for (_, value) in &mut self.outputs {
            *value = canonical[value.index()];
        }
    }

    /// Lets a transposition or reshape read what the one before it reads.
    fn compose(&mut self, index: usize) {
        let node = &self.nodes[index];
        let (x, y) = match node.inputs.first() {
            Some(&x) => (x, node.outputs[0]),
            None => return,
        };
        let Some(before) = self.producer(x) else {
            return;
        };
        let source = before.inputs.first().copied();
        let op = match (&before.op, &node.op) {
            (Op::Transpose { perm: first }, Op::Transpose { perm }) => Op::Transpose {
                perm: perm.iter().map(|&p| first[p]).collect(),
            },
            // A shape that isn't all numbers may copy sizes from what is reshaped.
            (Op::Reshape, Op::Reshape) if self.is_fixed(y) => Op::Reshape,
            _ => return,
        };
        let node = &mut self.nodes[index];
        node.op = op;
        if let Some(source) = source {
            node.inputs[0] = source;
        }
    }

    /// Whether all sizes of a value are numbers.
    fn is_fixed(&self, v: Value) -> bool {
        self.shape(v).iter().all(|d| d.fixed().is_some())
    }

    /// A weight, declared in another shape of as many elements.
    fn redeclared(&mut self, node: &Node) -> Option<Value> {
        let (x, y) = (*node.inputs.first()?, node.outputs[0]);
        let Origin::Initializer { name, data } = &self.tensors[x.index()].origin else {
            return None;
        };
        let shape: Vec<u64> = self.shape(y).iter().filter_map(Dim::fixed).collect();
        let (name, data, dtype) = (name.clone(), data.clone(), self.dtype(x));
        let fixed = self.is_fixed(y) && node.op == Op::Reshape;
        fixed.then(|| self.initializer(&name, dtype, &shape, data))
    }

    /// Equal bytes of equal type are one initializer. Named weights keep their first name.
    fn merge_initializers(&self, canonical: &mut [Value]) {
        let mut seen: HashMap<(DType, &[Dim], &Data), Value> = HashMap::new();
        for (index, tensor) in self.tensors.iter().enumerate() {
            if let Origin::Initializer { data, .. } = &tensor.origin {
                let value = Value(index as u32);
                canonical[index] = *seen
                    .entry((tensor.dtype, &tensor.shape, data))
                    .or_insert(value);
            }
        }
    }

    /// A simpler value equal to the node's output, if there is one.
    fn simplified(
        &mut self,
        node: &Node,
        seen: &mut Seen,
        canonical: &mut Vec<Value>,
    ) -> Option<Value> {
        let same = |g: &Self, v: Value| {
            g.shape(v) == g.shape(node.outputs[0]) && g.dtype(v) == g.dtype(node.outputs[0])
        };
        match &node.op {
            Op::Unary(Unary::Identity) => return Some(node.inputs[0]),
            Op::Binary(Binary::Mul | Binary::Div)
                if self.constant_f32(node.inputs[1]) == Some(1.0) =>
            {
                return Some(node.inputs[0]).filter(|&v| same(self, v));
            }
            Op::Transpose { perm } if perm.is_sorted() => return Some(node.inputs[0]),
            Op::Reshape if same(self, node.inputs[0]) => return Some(node.inputs[0]),
            // Widening and narrowing again changes nothing.
            Op::Cast(to) => {
                if let Some(Node {
                    op: Op::Cast(DType::F32),
                    inputs,
                    ..
                }) = self.producer(node.inputs[0])
                    && self.dtype(inputs[0]) == *to
                    && to.is_float()
                {
                    return Some(inputs[0]);
                }
            }
            Op::Transpose { perm } => {
                if let Some(Node {
                    op: Op::Transpose { perm: first },
                    inputs,
                    ..
                }) = self.producer(node.inputs[0])
                {
                    let identity = perm.iter().enumerate().all(|(i, &p)| first[p] == i);
                    if identity {
                        return Some(inputs[0]);
                    }
                }
            }
            _ => {}
        }
        let data = self.folded(node)?;
        let output = node.outputs[0];
        let shape: Vec<u64> = self.shape(output).iter().filter_map(Dim::fixed).collect();
        let dtype = self.dtype(output);
        // The folded constant may equal one made before.
        let value = match seen.constants.entry((dtype, shape, data)) {
            Entry::Occupied(first) => *first.get(),
            Entry::Vacant(new) => {
                let (_, shape, data) = new.key();
                let value = self.initializer("", dtype, shape, Data::Inline(data.clone()));
                canonical.push(value);
                *new.insert(value)
            }
        };
        Some(value)
    }

    /// [`Op::PerSample`] gives way to the parameter itself wherever a matrix product would
    /// broadcast it anyway, also through the transposition that a linear layer puts between.
    fn lower_per_sample(&mut self) {
        let mut plain: HashMap<Value, Value> = HashMap::new();
        let mut kept = Vec::with_capacity(self.nodes.len());
        for mut node in std::mem::take(&mut self.nodes) {
            match &node.op {
                Op::PerSample => {
                    plain.insert(node.outputs[0], node.inputs[0]);
                }
                Op::Transpose { perm } if *perm == [0, 2, 1] => {
                    if let Some(&parameter) = plain.get(&node.inputs[0]) {
                        let transposed = self.plain_transpose(parameter, &node);
                        plain.insert(node.outputs[0], transposed.outputs[0]);
                        kept.push(transposed);
                    }
                }
                Op::MatMul => {
                    if let Some(&parameter) = plain.get(&node.inputs[1]) {
                        node.inputs[1] = parameter;
                    }
                }
                _ => {}
            }
            kept.push(node);
        }
        self.nodes = kept;
        self.relink();
    }

    /// The transposition of a parameter matrix, standing in for that of its per-sample copies.
    fn plain_transpose(&mut self, parameter: Value, like: &Node) -> Node {
        let mut shape = self.shape(parameter).to_vec();
        shape.reverse();
        let output = self.add_tensor(self.dtype(parameter), shape, Origin::Node(usize::MAX));
        Node {
            op: Op::Transpose { perm: vec![1, 0] },
            inputs: vec![parameter],
            outputs: vec![output],
            scope: like.scope.clone(),
        }
    }

    /// Tells every value its node's index, after nodes have moved.
    pub(super) fn relink(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            for output in &node.outputs {
                self.tensors[output.index()].origin = Origin::Node(index);
            }
        }
    }

    /// Drops nodes that no output needs.
    fn drop_dead(&mut self) {
        let mut live = vec![false; self.tensors.len()];
        for (_, value) in &self.outputs {
            live[value.index()] = true;
        }
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|v| live[v.index()]) {
                node.inputs.iter().for_each(|v| live[v.index()] = true);
            }
        }
        self.nodes
            .retain(|node| node.outputs.iter().any(|v| live[v.index()]));
        self.relink();
    }
}
