//! Recognising what fused operators compute.
//!
//! A pattern is looked for from its last node backwards, in the graph as the networks build it, so
//! each follows the function it names. What it returns are values of that graph.

use crate::graph::builder::{Node, Origin};
use crate::graph::{Binary, Data, Dim, Graph, Op, Real, Unary, Value};

/// Half widths that CUDA's BiasSplitGelu has kernels for: Stable Diffusion's.
const SPLIT_GELU: [u64; 3] = [1280, 2560, 5120];
/// Widths that CUDA's BiasAdd has kernels for.
const BIAS_ADD: [u64; 3] = [320, 640, 1280];
/// Most channels of a group that a block of CUDA's GroupNorm takes.
const GROUP_CHANNELS: u64 = 512;
/// How far the queries' factor may be from 1/√d: an fp16 rounding.
const ATTENTION_SCALE: f32 = 1e-3;

/// A group normalisation (`Graph::group_norm`).
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupNorm {
    pub(super) x: Value,
    /// The operands that `x` is the sum of, where the sum can be fused too: the second may be one
    /// number per channel.
    pub(super) sum: Option<(Value, Value)>,
    pub(super) gamma: Value,
    pub(super) beta: Value,
    pub(super) groups: u64,
    pub(super) epsilon: Real,
}

/// Multi-head attention (`nets::attention`); either the queries or the scores are scaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) qkv: [Value; 3],
    /// [N, M]
    pub(super) mask: Option<Value>,
    pub(super) heads: u64,
}

/// A gated feed-forward layer (`Params::linear_halves` with GELU).
#[derive(Debug, Clone, Copy)]
pub(super) struct Gated {
    pub(super) x: Value,
    /// As stored, value first.
    pub(super) weights: [Value; 2],
    pub(super) biases: [Value; 2],
}

/// A layer normalisation of a sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct SkipLayerNorm {
    pub(super) x: Value,
    pub(super) skip: Value,
    pub(super) bias: Option<Value>,
}

/// Looks for patterns in a graph.
pub(super) struct Patterns<'a> {
    g: &'a Graph,
    /// How often each value is read.
    uses: Vec<u32>,
}

impl<'a> Patterns<'a> {
    pub(super) fn new(g: &'a Graph) -> Self {
        Self { g, uses: g.uses() }
    }

    /// The node that makes a value, if it is of this kind.
    fn made_by(&self, v: Value, op: &Op) -> Option<&'a Node> {
        self.g.producer(v).filter(|node| node.op == *op)
    }

    fn binary(&self, v: Value, op: Binary) -> Option<[Value; 2]> {
        let node = self.made_by(v, &Op::Binary(op))?;
        Some([node.inputs[0], node.inputs[1]])
    }

    fn unary(&self, v: Value, op: Unary) -> Option<Value> {
        Some(self.made_by(v, &Op::Unary(op))?.inputs[0])
    }

    fn reshaped(&self, v: Value) -> Option<Value> {
        Some(self.made_by(v, &Op::Reshape)?.inputs[0])
    }

    fn transposed(&self, v: Value, perm: &[usize]) -> Option<Value> {
        let op = Op::Transpose {
            perm: perm.to_vec(),
        };
        Some(self.made_by(v, &op)?.inputs[0])
    }

    /// What a value was cast from; itself if it wasn't.
    pub(super) fn stored(&self, v: Value) -> Value {
        match self.g.producer(v) {
            Some(Node {
                op: Op::Cast(_),
                inputs,
                ..
            }) => inputs[0],
            _ => v,
        }
    }

    fn is_vector(&self, v: Value) -> bool {
        self.g.rank(v) == 1 && self.g.dtype(v).is_float()
    }

    /// `x · σ(x)`
    pub(super) fn silu(&self, y: Value) -> Option<Value> {
        let [x, gate] = self.binary(y, Binary::Mul)?;
        (self.unary(gate, Unary::Sigmoid)? == x).then_some(x)
    }

    /// Whether a value is read by nothing but a SiLU.
    pub(super) fn only_for_silu(&self, x: Value) -> bool {
        let reads = |node: &&Node| node.inputs.contains(&x);
        let sigmoid = |node: &Node| node.op == Op::Unary(Unary::Sigmoid);
        let product = |node: &Node| self.silu(node.outputs[0]) == Some(x);
        let outside = self.g.outputs.iter().any(|o| o.1 == x);
        self.uses[x.index()] == 2
            && !outside
            && self
                .g
                .nodes
                .iter()
                .filter(reads)
                .all(|n| sigmoid(n) || product(n))
    }

    pub(super) fn group_norm(&self, y: Value) -> Option<GroupNorm> {
        let [scaled, beta] = self.binary(y, Binary::Add)?;
        let [normal, gamma] = self.binary(scaled, Binary::Mul)?;
        let (gamma, beta) = (self.reshaped(gamma)?, self.reshaped(beta)?);
        let node = self.g.producer(self.reshaped(normal)?)?;
        let Op::LayerNormalization { axis: 2, epsilon } = node.op else {
            return None;
        };
        let &[grouped, ones] = node.inputs.as_slice() else {
            return None;
        };
        let x = self.reshaped(grouped)?;
        let channels = self.g.shape(x)[1].fixed()?;
        let groups = self.g.shape(grouped)[1].fixed()?;
        let size = channels / groups;
        // A thread takes two channels of one group.
        let fits = size.is_multiple_of(2) && size <= GROUP_CHANNELS;
        let known = self.is_vector(gamma) && self.is_vector(beta);
        (fits && known && self.g.is_expanded_one(ones)).then_some(GroupNorm {
            x,
            sum: self.sum(x),
            gamma,
            beta,
            groups,
            epsilon,
        })
    }

    /// The operands of a sum of pictures that SkipGroupNorm can take over.
    fn sum(&self, x: Value) -> Option<(Value, Value)> {
        let [a, b] = self.binary(x, Binary::Add)?;
        let shape = self.g.shape(x);
        let per_channel = |v: Value| match self.g.shape(v) {
            [batch, c, h, w] => *batch == shape[0] && *c == shape[1] && h.is(1) && w.is(1),
            _ => false,
        };
        let whole = |v: Value| self.g.shape(v) == shape;
        if shape.len() != 4 {
            return None;
        }
        match (whole(a), whole(b)) {
            (true, true) => Some((a, b)),
            (true, false) if per_channel(b) => Some((a, b)),
            (false, true) if per_channel(a) => Some((b, a)),
            _ => None,
        }
    }

    /// `x · σ(αx)` with its α.
    pub(super) fn quick_gelu(&self, y: Value) -> Option<(Value, f32)> {
        if let Some(x) = self.silu(y) {
            return Some((x, 1.0));
        }
        let [x, gate] = self.binary(y, Binary::Mul)?;
        let [scaled, alpha] = self.binary(self.unary(gate, Unary::Sigmoid)?, Binary::Mul)?;
        let alpha = self.g.constant_f32(alpha)?;
        (scaled == x).then_some((x, alpha))
    }

    /// A vector and what it was added to, [.., n].
    fn biased(&self, v: Value) -> Option<(Value, Value)> {
        let [x, bias] = self.binary(v, Binary::Add)?;
        let whole = self.g.shape(x) == self.g.shape(v) && self.g.rank(v) == 3;
        (whole && self.is_vector(bias)).then_some((x, bias))
    }

    pub(super) fn bias_gelu(&self, y: Value) -> Option<(Value, Value)> {
        self.biased(self.unary(y, Unary::Gelu)?)
    }

    pub(super) fn gated(&self, y: Value) -> Option<Gated> {
        let [value, gate] = self.binary(y, Binary::Mul)?;
        let gate = self.unary(gate, Unary::Gelu)?;
        let halves = [self.linear(value)?, self.linear(gate)?];
        let half = self.g.shape(y).last()?.fixed()?;
        let same = halves[0].0 == halves[1].0 && SPLIT_GELU.contains(&half);
        let weights = halves.map(|h| h.1);
        let biases = halves.map(|h| h.2);
        let joined = |[a, b]: [Value; 2]| self.joined(a, b).is_some();
        (same && joined(weights) && joined(biases)).then_some(Gated {
            x: halves[0].0,
            weights,
            biases,
        })
    }

    /// `x Wᵀ + b` on three axes: x, and W and b as they are stored.
    fn linear(&self, y: Value) -> Option<(Value, Value, Value)> {
        let (product, bias) = self.biased(y)?;
        let node = self.made_by(product, &Op::MatMul)?;
        let weight = self.transposed(node.inputs[1], &[1, 0])?;
        Some((node.inputs[0], self.stored(weight), self.stored(bias)))
    }

    /// The data of two initializers of one shape that lie behind each other in a file, and a name.
    pub(super) fn joined(&self, first: Value, second: Value) -> Option<(String, Data)> {
        let data = |v: Value| match &self.g.tensors[v.index()].origin {
            Origin::Initializer {
                name,
                data:
                    Data::External {
                        file,
                        offset,
                        length,
                    },
            } => Some((name, file, *offset, *length)),
            _ => None,
        };
        let (name, file, offset, length) = data(first)?;
        let (_, other, next, rest) = data(second)?;
        let neighbours = file == other && next == offset + length && length == rest;
        let alike = self.g.dtype(first) == self.g.dtype(second)
            && self.g.shape(first) == self.g.shape(second);
        (neighbours && alike).then(|| {
            let name = name.strip_suffix(".0").unwrap_or(name).to_owned();
            let data = Data::External {
                file: file.clone(),
                offset,
                length: 2 * length,
            };
            (name, data)
        })
    }

    /// Input, bias and residual.
    pub(super) fn bias_add(&self, y: Value) -> Option<[Value; 3]> {
        let [a, b] = self.binary(y, Binary::Add)?;
        let width = self.g.shape(y).last()?.fixed()?;
        let alike = self.g.shape(a) == self.g.shape(b) && BIAS_ADD.contains(&width);
        let found = |biased: Value, skip: Value| {
            let (x, bias) = self.biased(biased)?;
            (self.uses[biased.index()] == 1).then_some([x, bias, skip])
        };
        alike.then(|| found(a, b).or_else(|| found(b, a)))?
    }

    pub(super) fn skip_layer_norm(&self, node: &Node) -> Option<SkipLayerNorm> {
        let sum = node.inputs[0];
        let statistics = node.outputs[1..].iter().any(|v| self.uses[v.index()] > 0);
        let [a, b] = self.binary(sum, Binary::Add)?;
        let alike = self.g.shape(a) == self.g.shape(b) && self.g.rank(sum) == 3;
        if !alike || statistics || node.inputs.len() != 3 {
            return None;
        }
        let found = |biased: Value, skip: Value| {
            let (x, bias) = self.biased(biased)?;
            (self.uses[biased.index()] == 1).then_some(SkipLayerNorm {
                x,
                skip,
                bias: Some(bias),
            })
        };
        let plain = SkipLayerNorm {
            x: a,
            skip: b,
            bias: None,
        };
        Some(found(a, b).or_else(|| found(b, a)).unwrap_or(plain))
    }

    /// What a value is a multiple of, and the factor.
    fn scaled(&self, v: Value) -> (Value, f32) {
        let found = self.binary(v, Binary::Mul).and_then(|[x, factor]| {
            let same = self.g.shape(x) == self.g.shape(v);
            Some((x, self.g.constant_f32(factor)?)).filter(|_| same)
        });
        found.unwrap_or((v, 1.0))
    }

    pub(super) fn attention(&self, y: Value) -> Option<Attention> {
        let mixed = self.transposed(self.reshaped(y)?, &[0, 2, 1, 3])?;
        let product = self.made_by(mixed, &Op::MatMul)?;
        let weights = self.stored(product.inputs[0]);
        let scores = self.made_by(weights, &Op::Softmax { axis: 3 })?.inputs[0];
        let scores = self.stored(scores);
        let (scores, mask) = match self.binary(scores, Binary::Add) {
            Some([scores, mask]) if self.g.rank(mask) == 2 => (scores, Some(mask)),
            Some(_) => return None,
            None => (scores, None),
        };
        let (scores, of_scores) = self.scaled(scores);
        let scores = self.made_by(scores, &Op::MatMul)?;
        let keys = self.transposed(scores.inputs[1], &[0, 1, 3, 2])?;
        let heads = |v: Value| {
            let split = self.transposed(v, &[0, 2, 1, 3])?;
            Some((self.reshaped(split)?, self.g.shape(split)[2].fixed()?))
        };
        let (q, count) = heads(scores.inputs[0])?;
        let ((k, of_k), (v, of_v)) = (heads(keys)?, heads(product.inputs[1])?);
        let (q, of_q) = self.scaled(q);
        let width = self.g.shape(q).last().and_then(Dim::fixed)? / count;
        let standard = (of_q * of_scores * (width as f32).sqrt() - 1.0).abs();
        let same = count == of_k && count == of_v && standard < ATTENTION_SCALE;
        same.then_some(Attention {
            qkv: [q, k, v],
            mask,
            heads: count,
        })
    }
}
