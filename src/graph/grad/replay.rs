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
//! A graph that is made for one job ([`Graph::made_for`]) is run in its file's order, which computes those first
//! ([`Graph::specialise`]). There one input of a part is gated, by the gradient itself where it has that
//! input's shape: whatever depends on the input waits with it.

use std::collections::{HashMap, HashSet};

use super::adjoints::Backward;
use super::segments::{Step, flatten};
use crate::graph::builder::Node;
use crate::graph::{DType, Data, Dim, Graph, Op, Result, Value};

/// A recomputation under way.
pub(super) struct Replay {
    /// The part's nodes again, as far as they depend on its large inputs.
    pub(super) steps: Vec<Step>,
    /// Nodes that don't: their results are kept.
    pub(super) kept: Vec<Step>,
    /// What the part's nodes make.
    inside: HashSet<Value>,
    /// What stands for which value.
    copies: HashMap<Value, Value>,
    /// What is known when the part's turn has come: a scalar, or in a graph made for one job the gradient.
    due: Value,
}

impl Backward<'_> {
    /// Computes a part again; nothing if no gradient flows into it.
    pub(super) fn replay(&mut self, part: &[Step]) -> Result<Option<Replay>> {
        let mut nodes = Vec::new();
        flatten(part, &mut nodes);
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
            return Ok(None);
        };
        let ordered = self.graph.made_for.is_some();
        let mut due = match ordered {
            true => gradient,
            false => self.graph.first_element(gradient)?,
        };
        if let Some(before) = self.done {
            due = self.graph.add(due, before)?;
        }
        let mut replay = Replay {
            steps: Vec::new(),
            kept: Vec::new(),
            inside: outputs.into_iter().collect(),
            copies: HashMap::new(),
            due,
        };
        replay.steps = self.copy(part, &mut replay)?;
        Ok(Some(replay))
    }

    /// Notes that a part is differentiated: what flowed out of it since `start` is in
    /// [`Backward::done`].
    pub(super) fn finish(&mut self, start: usize, replay: &Replay) -> Result<()> {
        let within: HashSet<Value> = replay.copies.values().copied().collect();
        let mut out = self.flowed.split_off(start);
        out.retain(|(to, _)| !within.contains(to));
        let ordered = self.graph.made_for.is_some();
        for &(_, contribution) in out.iter().filter(|_| !ordered) {
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
        let copied = |v: &Value| replay.copies.contains_key(v);
        let mut waits = self.graph.made_for.is_some() && node.inputs.iter().any(copied);
        for &input in &node.inputs {
            let stands_in = match (waits, replay.copies.get(&input)) {
                (_, Some(&copy)) => copy,
                (true, None) => input,
                (false, None) => self.stand_in(input, replay)?,
            };
            waits |= self.graph.made_for.is_some() && stands_in != input;
            inputs.push(stands_in);
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
        if replay.inside.contains(&value) || !self.graph.is_activation(value) {
            return Ok(value);
        }
        let Some(gate) = self.graph.gate else {
            return Ok(value);
        };
        let due = self.graph.cast(replay.due, self.graph.dtype(value))?;
        let due = match self.graph.broadcasts(due, value) {
            true => due,
            false => self.graph.one_number(due)?,
        };
        let gated = self.graph.select(gate, value, due)?;
        self.want_like(gated, value);
        self.gated.insert(gated, value);
        replay.copies.insert(value, gated);
        Ok(gated)
    }
}

impl Graph {
    /// Whether a value broadcasts to another's shape.
    fn broadcasts(&self, v: Value, to: Value) -> bool {
        self.rank(v) == 0 || self.shape(v) == self.shape(to)
    }

    /// A number that is known when a value is, as a scalar.
    fn one_number(&mut self, value: Value) -> Result<Value> {
        let all: Vec<usize> = (0..self.rank(value)).collect();
        self.reduce_sum(value, &all, false)
    }

    /// Whether a value is large and computed: not a weight, an input or what is made of one by changing its type,
    /// or a vector per sample.
    fn is_activation(&self, value: Value) -> bool {
        if let Some(Node {
            op: Op::Cast(_),
            inputs,
            ..
        }) = self.producer(value)
        {
            return self.is_activation(inputs[0]);
        }
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
