//! Gradient checkpointing: parts of a network whose insides are not kept for the backward pass but
//! computed again, from the part's inputs, when its gradient is due.
//!
//! Written naively, the second computation equals the first, and this crate's own passes or the
//! runtime's would merge both again and save nothing. So each input of the part goes through
//! `Where(gate, input, gradient)`, where `gate` is a graph input that is true by default (a
//! constant would be folded) and `gradient` is one element of what flows into the part's output,
//! plus one of everything that flowed out of the part before. The values keep their bits, no
//! schedule can start the second computation before all that exists, and nothing equals the first
//! computation. Without the second summand a runtime that goes depth first, as ONNX Runtime does,
//! follows the gradient of the picture through the whole network and leaves those of the factors,
//! and all that they are made of, for the end.
//!
//! Parts may lie in one another: a transformer block is computed again, and within it, when their
//! turn comes, the scores of each group of attention heads once more.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::grad::Backward;
use super::{DType, Data, Dim, Graph, Op, Result, Value};

/// How much a gradient computes again instead of keeping it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing: the graph gets no gradient, or is small.
    #[default]
    Nothing,
    /// What is large and takes little time: scores of attention, activation functions.
    Cheap,
    /// Whole blocks, and within them scores of attention once more.
    Blocks,
}

/// What a part of a network is, as far as computing it again goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Layers with weights: most of the time.
    Block,
    /// Attention's scores, their softmax and what it weighs.
    Scores,
    /// Element by element, norms included.
    Activation,
}

/// Where only cheap parts are computed again, one whose insides take fewer bytes than this at the
/// planned sizes is kept: its memory isn't worth the operations that computing it again adds.
const SMALL_PART: u64 = 8 << 20;

/// A forward pass as the backward pass sees it.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// One node, by index.
    Node(usize),
    /// A part to compute again.
    Segment(Vec<Step>),
}

impl Graph {
    /// Says which [`Graph::checkpointed`] parts built from now on are computed again for their
    /// gradient. Before that gradient [`Graph::gate_recomputation`] must have been called, if
    /// [`Graph::recomputes`].
    pub fn recompute(&mut self, what: Recompute) {
        self.recompute = what;
    }

    /// Whether any part is to be computed again.
    pub fn recomputes(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Gives the input, a true scalar, that keeps the second computation apart from the first.
    pub fn gate_recomputation(&mut self, gate: Value) {
        self.gate = Some(gate);
    }

    /// Builds a part of the network that is computed again for its gradient where
    /// [`Graph::recompute`] says so.
    pub fn checkpointed<T>(&mut self, part: Part, body: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.nodes.len();
        let result = body(self);
        let nodes = start..self.nodes.len();
        let again = match (self.recompute, part) {
            (Recompute::Nothing, _) | (Recompute::Cheap, Part::Block) => false,
            (Recompute::Cheap, _) => self.planned_bytes(nodes.clone()) >= SMALL_PART,
            (Recompute::Blocks, _) => part != Part::Activation,
        };
        if again && !nodes.is_empty() {
            self.segments.push(nodes);
        }
        result
    }

    /// Bytes that nodes make at the planned sizes; what has no plan counts nothing.
    fn planned_bytes(&self, nodes: Range<usize>) -> u64 {
        let made = self.nodes[nodes].iter().map(|n| n.outputs[0]);
        let bytes = made.filter_map(|v| {
            let mut shape = self.shape(v).iter();
            shape.try_fold(self.dtype(v).size(), |n, d| Some(n * self.planned(d)?))
        });
        bytes.sum()
    }

    /// All nodes so far as steps.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut segments = self.segments.clone();
        // An outer part before those within.
        segments.sort_by_key(|s| (s.start, std::cmp::Reverse(s.end)));
        steps_within(0..self.nodes.len(), &mut segments.iter().peekable())
    }
}

/// The steps of a range of nodes; takes its parts from the front of `segments`.
fn steps_within<'a>(
    nodes: Range<usize>,
    segments: &mut std::iter::Peekable<impl Iterator<Item = &'a Range<usize>>>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut next = nodes.start;
    while next < nodes.end {
        match segments.next_if(|s| s.start == next && s.end <= nodes.end) {
            Some(segment) => {
                steps.push(Step::Segment(steps_within(segment.clone(), segments)));
                next = segment.end;
            }
            None => {
                steps.push(Step::Node(next));
                next += 1;
            }
        }
    }
    steps
}

/// Indices of the nodes of steps, in order.
fn flatten(steps: &[Step], into: &mut Vec<usize>) {
    for step in steps {
        match step {
            Step::Node(index) => into.push(*index),
            Step::Segment(inner) => flatten(inner, into),
        }
    }
}

/// A recomputation under way.
struct Replay {
    /// What the part's nodes make.
    inside: HashSet<Value>,
    /// What stands for which value.
    copies: HashMap<Value, Value>,
    /// A scalar that is known when the part's turn has come.
    due: Value,
    /// Nodes that don't depend on the part's large inputs: their results are kept.
    kept: Vec<Step>,
}

impl Backward<'_> {
    /// Computes a part again and differentiates that.
    pub(super) fn segment(&mut self, steps: &[Step]) -> Result<()> {
        let mut nodes = Vec::new();
        flatten(steps, &mut nodes);
        let outputs: Vec<Value> = nodes
            .iter()
            .flat_map(|&n| self.graph.nodes[n].outputs.clone())
            .collect();
        let mut gradient = None;
        for &output in outputs.iter().rev() {
            gradient = self.adjoint(output)?;
            if gradient.is_some() {
                break;
            }
        }
        let Some(gradient) = gradient else {
            return Ok(());
        };
        let mut due = self.graph.first_element(gradient)?;
        if let Some(before) = self.done {
            due = self.graph.add(due, before)?;
        }
        let mut replay = Replay {
            inside: outputs.into_iter().collect(),
            copies: HashMap::new(),
            due,
            kept: Vec::new(),
        };
        let copies = self.copy(steps, &mut replay)?;
        let start = self.flowed.len();
        self.sweep(&copies)?;
        self.sweep(&replay.kept)?;
        self.finish(start, &replay)
    }

    /// Notes that a part is differentiated: what flowed out of it since `start` is in
    /// [`Backward::done`].
    fn finish(&mut self, start: usize, replay: &Replay) -> Result<()> {
        let within: HashSet<Value> = replay.copies.values().copied().collect();
        let mut out = self.flowed.split_off(start);
        out.retain(|(to, _)| !within.contains(to));
        for &(_, contribution) in &out {
            let element = self.graph.first_element(contribution)?;
            self.done = Some(match self.done {
                Some(done) => self.graph.add(done, element)?,
                None => element,
            });
        }
        // A part around this one has no use for what has flowed within.
        self.flowed.extend(out);
        Ok(())
    }

    /// The steps again, on gated inputs.
    fn copy(&mut self, steps: &[Step], replay: &mut Replay) -> Result<Vec<Step>> {
        let mut copies = Vec::new();
        for step in steps {
            match step {
                Step::Segment(inner) => {
                    let inner = self.copy(inner, replay)?;
                    if !inner.is_empty() {
                        copies.push(Step::Segment(inner));
                    }
                }
                Step::Node(index) => match self.copy_node(*index, replay)? {
                    Some(copy) => copies.push(Step::Node(copy)),
                    None => replay.kept.push(Step::Node(*index)),
                },
            }
        }
        Ok(copies)
    }

    /// A node again, if it depends on a gated input.
    fn copy_node(&mut self, index: usize, replay: &mut Replay) -> Result<Option<usize>> {
        let node = self.graph.nodes[index].clone();
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            inputs.push(self.stand_in(input, replay)?);
        }
        if inputs == node.inputs {
            return Ok(None);
        }
        let types = node
            .outputs
            .iter()
            .map(|&v| (self.graph.dtype(v), self.graph.shape(v).to_vec()))
            .collect();
        self.graph.push_scope(format!("recompute.{}", node.scope));
        let copy = self.graph.nodes.len();
        let outputs = self.graph.push_multi(node.op.clone(), &inputs, types);
        self.graph.pop_scope();
        for (&old, new) in node.outputs.iter().zip(outputs) {
            replay.copies.insert(old, new);
            self.want_like(new, old);
            if let Some(adjoint) = self.take_adjoint(old)? {
                self.set_adjoint(new, adjoint);
            }
        }
        Ok(Some(copy))
    }

    /// What stands for an operand in the second computation.
    fn stand_in(&mut self, value: Value, replay: &mut Replay) -> Result<Value> {
        if let Some(&copy) = replay.copies.get(&value) {
            return Ok(copy);
        }
        if replay.inside.contains(&value) || !self.graph.is_activation(value) {
            return Ok(value);
        }
        let Some(gate) = self.graph.gate else {
            return Ok(value);
        };
        let due = self.graph.cast(replay.due, self.graph.dtype(value))?;
        let gated = self.graph.select(gate, value, due)?;
        self.want_like(gated, value);
        self.gated.insert(gated, value);
        replay.copies.insert(value, gated);
        Ok(gated)
    }
}

impl Graph {
    /// Whether a value is large and computed: not a weight, an input, or a vector per sample.
    fn is_activation(&self, value: Value) -> bool {
        let computed = self.producer(value).is_some_and(|n| n.op != Op::PerSample);
        computed && self.rank(value) >= 3 && self.dtype(value).is_float()
    }

    /// The first element of a value, as an f32 scalar.
    fn first_element(&mut self, value: Value) -> Result<Value> {
        let size = self.shape(value).iter();
        let size = size.fold(Dim::from(1_u64), |n, d| n.times(d));
        let flat = self.reshape(value, &[size])?;
        let zero = self.initializer("", DType::I64, &[], Data::Inline([0; 8].into()));
        let element = self.gather(flat, zero, 0)?;
        self.cast(element, DType::F32)
    }
}
