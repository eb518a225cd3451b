//! What has flowed where in a backward pass.

use std::collections::HashMap;
use std::ops::Range;

use crate::graph::builder::Origin;
use crate::graph::{Graph, Result, Value};

/// A backward pass under way.
pub(super) struct Backward<'g> {
    pub(super) graph: &'g mut Graph,
    /// Per value: whether it depends on a wanted one.
    wanted: Vec<bool>,
    /// What has flowed into each value, summed up.
    adjoints: HashMap<Value, Value>,
    /// What has flowed into slices of a value and isn't part of its adjoint yet.
    slices: HashMap<Value, Vec<Slice>>,
    /// Values that stand for others in a recomputation: their adjoints are the originals'.
    pub(super) gated: HashMap<Value, Value>,
    /// Every contribution so far, and to which value's adjoint.
    pub(super) flowed: Vec<(Value, Value)>,
    /// A scalar that is known when everything is that has flowed out of recomputed parts so far.
    pub(super) done: Option<Value>,
}

/// The adjoint of elements `start..end` of an axis.
struct Slice {
    axis: usize,
    start: u64,
    end: u64,
    dy: Value,
}

impl<'g> Backward<'g> {
    /// A pass to the wanted values, with nothing flowing yet.
    pub(super) fn new(graph: &'g mut Graph, wrt: &[Value]) -> Self {
        Self {
            wanted: graph.depends_on(wrt),
            graph,
            adjoints: HashMap::new(),
            slices: HashMap::new(),
            gated: HashMap::new(),
            flowed: Vec::new(),
            done: None,
        }
    }

    /// Lets a contribution flow into a value.
    pub(super) fn accumulate(&mut self, to: Value, contribution: Value) -> Result<()> {
        let to = self.original(to);
        self.flowed.push((to, contribution));
        let sum = match self.adjoints.get(&to) {
            Some(&before) => self.graph.add(before, contribution)?,
            None => contribution,
        };
        self.adjoints.insert(to, sum);
        Ok(())
    }

    /// Lets a contribution flow into part of an axis of a value.
    pub(super) fn accumulate_slice(
        &mut self,
        to: Value,
        (axis, range): (usize, Range<u64>),
        dy: Value,
    ) {
        let slice = Slice {
            axis,
            start: range.start,
            end: range.end,
            dy,
        };
        let whole = self.original(to);
        self.slices.entry(whole).or_default().push(slice);
    }

    /// What has flowed into a value, of its shape.
    pub(super) fn adjoint(&mut self, value: Value) -> Result<Option<Value>> {
        if let Some(mut slices) = self.slices.remove(&value) {
            slices.sort_by_key(|s| (s.axis, s.start));
            if self.tile(value, &slices) {
                let parts: Vec<Value> = slices.iter().map(|s| s.dy).collect();
                let joined = self.graph.concat(&parts, slices[0].axis)?;
                self.accumulate(value, joined)?;
            } else {
                for slice in slices {
                    let padded = self.padded(value, &slice)?;
                    self.accumulate(value, padded)?;
                }
            }
        }
        Ok(self.adjoints.get(&value).copied())
    }

    /// Whether slices cover an axis exactly once, one after the other.
    fn tile(&self, value: Value, slices: &[Slice]) -> bool {
        let axis = slices[0].axis;
        let mut end = 0;
        let follow = slices.iter().all(|s| {
            let fits = s.axis == axis && s.start == end;
            end = s.end;
            fits
        });
        follow && self.graph.shape(value)[axis].is(end)
    }

    /// The adjoint of a slice with zeros around it.
    fn padded(&mut self, value: Value, slice: &Slice) -> Result<Value> {
        let rank = self.graph.rank(value);
        let size = self.graph.shape(value)[slice.axis].fixed();
        let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
        before[slice.axis] = slice.start;
        after[slice.axis] = size.unwrap_or(slice.end) - slice.end;
        self.graph.pad(slice.dy, &before, &after)
    }

    /// Forgets what has flowed into a value and returns it.
    pub(super) fn take_adjoint(&mut self, value: Value) -> Result<Option<Value>> {
        self.adjoint(value)?;
        Ok(self.adjoints.remove(&value))
    }

    /// Says what has flowed into a value that stands for another from now on.
    pub(super) fn set_adjoint(&mut self, value: Value, adjoint: Value) {
        self.adjoints.insert(value, adjoint);
    }

    fn original(&self, mut value: Value) -> Value {
        while let Some(&original) = self.gated.get(&value) {
            value = original;
        }
        value
    }

    /// Whether a value depends on a wanted one.
    pub(super) fn is_wanted(&self, value: Value) -> bool {
        self.wanted.get(value.index()) == Some(&true)
    }

    /// Marks a value as depending on what another depends on.
    pub(super) fn want_like(&mut self, value: Value, like: Value) {
        let wanted = self.is_wanted(like);
        if self.wanted.len() <= value.index() {
            self.wanted.resize(value.index() + 1, false);
        }
        self.wanted[value.index()] = wanted;
    }
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
