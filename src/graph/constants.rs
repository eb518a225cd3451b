//! What constants hold, and what small ones fold to.

use std::sync::Arc;

use super::builder::{Node, Origin};
use super::{Binary, DType, Data, Dim, Graph, Op, Value};

/// Larger constants are left to the runtime's own folding.
const FOLDED_ELEMENTS: usize = 64;

impl Graph {
    /// The bytes of a node's output, if its operands are small constants.
    pub(super) fn folded(&self, node: &Node) -> Option<Arc<[u8]>> {
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
            Op::Expand => {
                let &[number] = self.numbers(node.inputs[0])?.as_slice() else {
                    return None;
                };
                let size: Option<Vec<u64>> = self.shape(output).iter().map(Dim::fixed).collect();
                let count = size?.iter().product::<u64>();
                let count = usize::try_from(count).ok()?;
                (count <= FOLDED_ELEMENTS)
                    .then(|| encode(self.dtype(output), &vec![number; count]))?
            }
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

    /// Whether a value is a constant 1 repeated (the scale of a group normalisation's core).
    pub(super) fn is_expanded_one(&self, v: Value) -> bool {
        let source = match self.producer(v) {
            Some(Node {
                op: Op::Expand,
                inputs,
                ..
            }) => inputs[0],
            _ => v,
        };
        self.rank(source) == 0 && self.constant_f32(source) == Some(1.0)
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
