//! Passes over a finished graph: constants are folded, equal operations merged, dead ones dropped.
//!
//! Merging is what lets `unet_grad` write its reference and policy forwards as two calls of one
//! function: everything both share becomes one set of nodes.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Binary, DType, Data, Dim, Graph, Node, Op, Origin, Unary, Value};

/// Larger constants are left to the runtime's own folding.
const FOLDED_ELEMENTS: usize = 64;

impl Graph {
    /// Folds small constants, merges equal operations and weights, lowers [`Op::PerSample`], and
    /// drops what no output needs. Values handed out before stay valid only if they are inputs or
    /// outputs.
    pub fn optimize(&mut self) {
        self.merge_and_fold();
        self.lower_per_sample();
        self.merge_and_fold();
        self.drop_dead();
    }

    /// One sweep in topological order: each node's operands are replaced by their canonical
    /// values, then the node is folded, or merged with an equal one, or kept.
    fn merge_and_fold(&mut self) {
        let mut canonical: Vec<Value> = (0..self.tensors.len() as u32).map(Value).collect();
        self.merge_initializers(&mut canonical);
        let mut seen: HashMap<String, usize> = HashMap::new();
        for index in 0..self.nodes.len() {
            for i in 0..self.nodes[index].inputs.len() {
                let input = self.nodes[index].inputs[i];
                self.nodes[index].inputs[i] = canonical[input.index()];
            }
            let node = self.nodes[index].clone();
            if let Some(replacement) = self.simplified(&node, &mut seen, &mut canonical) {
                canonical[node.outputs[0].index()] = replacement;
                continue;
            }
            let key = format!("{:?}{:?}", node.op, node.inputs);
            match seen.get(&key) {
                Some(&first) => {
                    let firsts = self.nodes[first].outputs.clone();
                    for (mine, theirs) in node.outputs.iter().zip(firsts) {
                        canonical[mine.index()] = theirs;
                    }
                }
                None => {
                    seen.insert(key, index);
                }
            }
        }
        for (_, value) in &mut self.outputs {
            *value = canonical[value.index()];
        }
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
        seen: &mut HashMap<String, usize>,
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
        let key = format!("constant {dtype:?}{shape:?}{data:?}");
        if let Some(&index) = seen.get(&key) {
            return Some(Value(index as u32));
        }
        let value = self.initializer("", dtype, &shape, Data::Inline(data));
        canonical.push(value);
        seen.insert(key, value.index());
        Some(value)
    }

    /// The bytes of a node's output, if its operands are small constants.
    fn folded(&self, node: &Node) -> Option<Arc<[u8]>> {
        let output = node.outputs[0];
        match &node.op {
            Op::Binary(op) => {
                let (a, b) = (self.numbers(node.inputs[0])?, self.numbers(node.inputs[1])?);
                let n = a.len().max(b.len());
                if (a.len() != n && a.len() != 1) || (b.len() != n && b.len() != 1) {
                    return None;
                }
                let pairs = (0..n).map(|i| (a[i % a.len()], b[i % b.len()]));
                let result: Option<Vec<f64>> = pairs
                    .map(|(a, b)| match op {
                        Binary::Add => Some(a + b),
                        Binary::Sub => Some(a - b),
                        Binary::Mul => Some(a * b),
                        Binary::Div if self.dtype(output).is_float() => Some(a / b),
                        Binary::Div => (b != 0.0).then(|| (a / b).trunc()),
                        _ => None,
                    })
                    .collect();
                encode(self.dtype(output), &result?)
            }
            Op::Cast(to) => encode(*to, &self.numbers(node.inputs[0])?),
            Op::Concat { .. } if self.shape(output).len() == 1 => {
                let parts: Option<Vec<_>> = node.inputs.iter().map(|&v| self.numbers(v)).collect();
                encode(self.dtype(output), &parts?.concat())
            }
            Op::Reshape => encode(self.dtype(output), &self.numbers(node.inputs[0])?),
            _ => None,
        }
    }

    /// Elements of a small inline constant of floating-point numbers or 64-bit integers.
    fn numbers(&self, value: Value) -> Option<Vec<f64>> {
        let tensor = &self.tensors[value.index()];
        let Origin::Initializer {
            data: Data::Inline(bytes),
            ..
        } = &tensor.origin
        else {
            return None;
        };
        let numbers: Vec<f64> = match tensor.dtype {
            DType::F32 => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).into())
                .collect(),
            DType::I64 => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|&b| i64::from_le_bytes(b) as f64)
                .collect(),
            DType::F16 => bytes
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64())
                .collect(),
            DType::BF16 => bytes
                .chunks_exact(2)
                .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f64())
                .collect(),
            _ => return None,
        };
        (numbers.len() <= FOLDED_ELEMENTS).then_some(numbers)
    }

    /// Value of a constant floating-point scalar, also where a cast of one isn't folded yet.
    pub(super) fn constant_f32(&self, value: Value) -> Option<f32> {
        if let Some(Node {
            op: Op::Cast(_),
            inputs,
            ..
        }) = self.producer(value)
        {
            return self.constant_f32(inputs[0]);
        }
        let one = self.shape(value).iter().all(|d| d.is(1));
        match self.numbers(value)?.as_slice() {
            &[x] if one && self.dtype(value).is_float() => Some(x as f32),
            _ => None,
        }
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
    fn relink(&mut self) {
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

fn encode(dtype: DType, numbers: &[f64]) -> Option<Arc<[u8]>> {
    let bytes: Vec<u8> = match dtype {
        DType::F32 => numbers
            .iter()
            .flat_map(|&n| (n as f32).to_le_bytes())
            .collect(),
        DType::I64 => numbers
            .iter()
            .flat_map(|&n| (n as i64).to_le_bytes())
            .collect(),
        DType::F16 => numbers
            .iter()
            .flat_map(|&n| half::f16::from_f64(n).to_le_bytes())
            .collect(),
        DType::BF16 => numbers
            .iter()
            .flat_map(|&n| half::bf16::from_f64(n).to_le_bytes())
            .collect(),
        _ => return None,
    };
    Some(bytes.into())
}
