//! Preserved pictures: each should stay at least as likely under its own caption as the reference made
//! it.
//!
//! ```text
//! L = mean of −ln σ(β g_i)
//! ```
//!
//! It is PopAlign's form for winners with the offset at the reference itself, so its weight (`--preserve`)
//! needs no other scale.

use super::loss::{Loss, Takes, beta_rule};
use crate::align::rules::Rule;
use crate::base::Values;
use crate::device;

/// The default weight: nothing is preserved.
pub const WEIGHT: f64 = 0.0;
/// What it can be.
pub const WEIGHTS: Values<f64> = Values::from("a weight", 0.0);

/// The loss.
pub static LOSS: Loss = Loss {
    name: "preserve",
    about: "Every preserved picture against what the model made of it",
    takes: Takes::Preserved,
    weight: |parameters| parameters.preserve,
    rules: |parameters| {
        vec![
            beta_rule(parameters),
            Rule::values("preserve", parameters.preserve, WEIGHTS),
        ]
    },
    by_snr: false,
    arithmetic: |_| device::Loss::Reference,
};
