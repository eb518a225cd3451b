//! Which parts of a network are computed again for their gradient, and a forward pass cut into them.
//!
//! Parts may lie in one another: a transformer block is computed again, and within it, when their
//! turn comes, the scores of each group of attention heads once more.

use std::ops::Range;

use crate::graph::{Graph, Recompute, Segment, Value};

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
    pub fn checkpointed<T>(&mut self, part: Segment, body: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.nodes.len();
        let result = body(self);
        let nodes = start..self.nodes.len();
        let again = match (self.recompute, part) {
            (Recompute::Nothing, _) | (Recompute::Cheap, Segment::Block) => false,
            (Recompute::Cheap, _) => self.planned_bytes(nodes.clone()) >= SMALL_PART,
            (Recompute::Blocks, _) => part != Segment::Activation,
        };
        if again && !nodes.is_empty() {
            self.segments.push(nodes);
        }
        result
    }

    /// Bytes that nodes make at the planned sizes; what has no plan counts nothing.
    fn planned_bytes(&self, nodes: Range<usize>) -> u64 {
        let made = self.nodes[nodes].iter().map(|n| n.outputs[0]);
        made.filter_map(|v| self.bytes(v, |s| self.plan_of(s)))
            .sum()
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
pub(super) fn flatten(steps: &[Step], into: &mut Vec<usize>) {
    for step in steps {
        match step {
            Step::Node(index) => into.push(*index),
            Step::Segment(inner) => flatten(inner, into),
        }
    }
}
