//! What the errors of a batch become: the vocabulary of `kernels/weights.cu`, whose equations stand
//! there. Which loss of a run has which arithmetic is said above ([`crate::align`]).

use std::ops::Range;

/// The arithmetic of a loss. Sample 2p of its samples is the winner and 2p + 1 the loser of pair p,
/// but for [`Loss::Reference`] and [`Loss::Each`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Every sample's implied reward against an offset: the batch's mean of them.
    Offset {
        /// Weight of the winners' mean in the offset, 0 to 1.
        alpha: f64,
    },
    /// By how much the winners of a set of pairs lead its losers, all rewards added up.
    Lead {
        /// Pairs of a set; those of one follow each other.
        set: usize,
    },
    /// The winners' errors.
    Error,
    /// Every sample's implied reward against the reference's, which is 0. There are no pairs.
    Reference,
    /// Every sample's error. There are no pairs.
    Each,
}

/// A loss on some samples of a batch, as a part of what is minimised.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The arithmetic.
    pub loss: Loss,
    /// Strength of the implied divergence penalty.
    pub beta: f64,
    /// What the loss is multiplied with in the sum of all terms.
    pub weight: f64,
    /// Its samples.
    pub samples: Range<usize>,
}

/// What the kernel takes of a [`Term`]. In memory as `Term` of `kernels/weights.cu`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct TermScalars {
    /// First sample.
    pub first: i64,
    /// Samples.
    pub count: i64,
    /// Pairs of a set.
    pub set: i64,
    /// Which arithmetic.
    pub kind: i64,
    /// See [`Term::weight`].
    pub weight: f64,
    /// See [`Term::beta`].
    pub beta: f64,
    /// See [`Loss::Offset`].
    pub alpha: f64,
}

impl Term {
    /// What the kernel takes.
    pub fn scalars(&self) -> TermScalars {
        let (kind, set, alpha) = match self.loss {
            Loss::Offset { alpha } => (0, 1, alpha),
            Loss::Lead { set } => (1, set, 0.0),
            Loss::Error => (2, 1, 0.0),
            Loss::Reference => (3, 1, 0.0),
            Loss::Each => (4, 1, 0.0),
        };
        TermScalars {
            first: self.samples.start as i64,
            count: self.samples.len() as i64,
            set: set as i64,
            kind,
            weight: self.weight,
            beta: self.beta,
            alpha,
        }
    }
}

/// What the log shows of a term.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The loss, unweighted.
    pub loss: f64,
    /// The offset of [`Loss::Offset`]; 0 for others.
    pub mu: f64,
    /// Share of pairs whose winner has the higher implied reward; ties count half. 0 where there are no
    /// pairs.
    pub accuracy: f64,
    /// Mean of beta (g_w - g_l) over pairs; 0 where there are none.
    pub margin: f64,
}

/// Factors of a batch, and what is read of them.
#[derive(Debug)]
pub struct Weights<B> {
    /// dL / d mse_i per sample, on the device; of L the weighted sum of all terms.
    pub c: B,
    /// A summary of each term.
    pub terms: Vec<Summary>,
    /// Place of the first error that is infinite or NaN among all of them, [2, samples]; then the
    /// rest says nothing.
    pub bad: Option<usize>,
}
