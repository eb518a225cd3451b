//! What a loss is.

use std::ops::Range;

use crate::align::rules::Rule;
use crate::base::Values;
use crate::device;

/// A loss: one of `--loss`, or one of preserved pictures.
#[derive(Debug)]
pub struct Loss {
    /// What the command line and manifests call it.
    pub name: &'static str,
    /// A line of help.
    pub about: &'static str,
    /// What it is a loss of.
    pub takes: Takes,
    /// What it is multiplied with in the sum of losses; one of 0 is not computed.
    pub weight: fn(&Parameters) -> f64,
    /// What its parameters must be.
    pub rules: fn(&Parameters) -> Vec<Rule>,
    /// Whether its samples may be weighted by their time steps (`--snr-gamma`).
    pub by_snr: bool,
    /// Which arithmetic of the device computes it.
    pub arithmetic: fn(&Parameters) -> device::Loss,
}

/// What a loss is a loss of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Pairs of pictures.
    Pairs,
    /// Sets of pairs, which stay together in a batch.
    Sets,
    /// Pictures that the run itself draws, instead of pairs.
    Drawn,
    /// Pictures under their own captions, drawn beside the pairs.
    Preserved,
}

/// What losses can be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Strength of the implied divergence penalty.
    pub beta: f64,
    /// Weight of the winners in the offset μ of the PopAlign loss.
    pub alpha: f64,
    /// Weight of preserving pictures.
    pub preserve: f64,
    /// Pairs of a set.
    pub set_size: usize,
    /// γ of the weighting by time step, if there is one.
    pub snr_gamma: Option<f64>,
    /// Strength of the loss of drawn pictures, where a run draws some.
    pub strength: Option<f64>,
}

/// The paper's β, of all losses.
pub const BETA: f64 = 5000.0;
/// What β can be.
pub const BETAS: Values<f64> = Values::above("a number", 0.0);

/// The rule of [`Parameters::beta`], for every loss that it scales.
pub(super) fn beta_rule(parameters: &Parameters) -> Rule {
    Rule::values("beta", parameters.beta, BETAS)
}

impl Loss {
    /// The loss on some samples of a batch.
    pub fn term(&self, parameters: &Parameters, samples: Range<usize>) -> device::Term {
        device::Term {
            loss: (self.arithmetic)(parameters),
            beta: parameters.beta,
            weight: (self.weight)(parameters),
            samples,
        }
    }
}
