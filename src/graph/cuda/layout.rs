//! Values in two layouts: as they stand in the graph, and with their channels last.

use crate::graph::builder::Origin;
use crate::graph::{Graph, Result, Value};

/// Where an old value is in the new graph.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    plain: Option<Value>,
    /// With axis 1, the channels, moved to the end: [B, H, W, C] of [B, C, H, W], [B, N, C] of
    /// [B, C, N].
    last: Option<Value>,
}

/// Where each old value is.
pub(super) struct Layouts(Vec<Places>);

impl Layouts {
    /// Inputs and weights are where they were; nodes' results not yet.
    pub(super) fn new(old: &Graph) -> Self {
        let origins = old.tensors.iter().map(|t| &t.origin);
        let places = origins.enumerate().map(|(index, origin)| Places {
            plain: match origin {
                Origin::Node(_) => None,
                _ => Some(Value(index as u32)),
            },
            last: None,
        });
        Self(places.collect())
    }

    pub(super) fn set_plain(&mut self, old: Value, new: Value) {
        self.0[old.index()] = Places {
            plain: Some(new),
            last: None,
        };
    }

    pub(super) fn set_last(&mut self, old: Value, new: Value) {
        self.0[old.index()] = Places {
            plain: None,
            last: Some(new),
        };
    }

    pub(super) fn has_last(&self, old: Value) -> bool {
        self.0[old.index()].last.is_some()
    }

    /// Makes `new` what `old` is with its layouts exchanged: [B, C, N] to [B, N, C] and back is only
    /// another name for what is there.
    pub(super) fn exchange(&mut self, old: Value, new: Value) {
        let Places { plain, last } = self.0[old.index()];
        self.0[new.index()] = Places {
            plain: last,
            last: plain,
        };
    }

    /// The value as it stood.
    pub(super) fn plain(&mut self, g: &mut Graph, old: Value) -> Result<Value> {
        let places = self.0[old.index()];
        match (places.plain, places.last) {
            (Some(value), _) => Ok(value),
            (None, Some(last)) => {
                let perm: &[usize] = match g.rank(last) {
                    4 => &[0, 3, 1, 2],
                    _ => &[0, 2, 1],
                };
                let value = g.transpose(last, perm)?;
                self.0[old.index()].plain = Some(value);
                Ok(value)
            }
            (None, None) => Err(g.mismatch("Transpose", "a value that exists", &[old])),
        }
    }

    /// The value with its channels last; it has 3 or 4 axes.
    pub(super) fn last(&mut self, g: &mut Graph, old: Value) -> Result<Value> {
        if let Some(value) = self.0[old.index()].last {
            return Ok(value);
        }
        let plain = self.plain(g, old)?;
        let value = match g.shape(plain) {
            // One number per channel: moving the axis moves nothing.
            [b, c, h, w] if h.is(1) && w.is(1) => {
                let shape = [b.clone(), h.clone(), w.clone(), c.clone()];
                g.reshape(plain, &shape)?
            }
            [_, _, _, _] => g.transpose(plain, &[0, 2, 3, 1])?,
            _ => g.transpose(plain, &[0, 2, 1])?,
        };
        self.0[old.index()].last = Some(value);
        Ok(value)
    }
}
