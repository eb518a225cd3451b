//! Where factors lie in a flat buffer.

use std::ops::Range;

/// Elements of a quantisation block.
pub const BLOCK: usize = 256;

/// Where each LoRA factor lies in one flat buffer: `offsets[m]..offsets[m + 1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    offsets: Vec<usize>,
}

impl Layout {
    /// Factors of these lengths, one after another.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        Self { offsets }
    }

    /// Number of factors.
    pub fn factors(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Place of factor `m`'s gradients of a batch among those of all factors: each factor's are
    /// [batch, elements], factor after factor.
    pub fn batch_range(&self, m: usize, batch: usize) -> Range<usize> {
        batch * self.offsets[m]..batch * self.offsets[m + 1]
    }

    /// Elements of all factors.
    pub fn total(&self) -> usize {
        self.offsets[self.factors()]
    }

    /// Place of factor `m`.
    pub fn range(&self, m: usize) -> Range<usize> {
        self.offsets[m]..self.offsets[m + 1]
    }

    /// Start of every factor, and the end of the last.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// These factors cut into blocks of at most [`BLOCK`] elements, none across two factors.
    #[must_use]
    pub fn blocks(&self) -> Self {
        let cut = |m| {
            let range = self.range(m);
            range
                .clone()
                .step_by(BLOCK)
                .map(move |start| BLOCK.min(range.end - start))
        };
        Self::new((0..self.factors()).flat_map(cut))
    }
}
