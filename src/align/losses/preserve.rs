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
use crate::align::rules::from_zero;
use crate::device;

/// The default weight: nothing is preserved.
pub const WEIGHT: f64 = 0.0;

/// The loss.
pub static LOSS: Loss = Loss {
    name: "preserve",
    about: "Every preserved picture against what the model made of it",
    takes: Takes::Preserved,
    weight: |parameters| parameters.preserve,
    rules: |parameters| {
        let weight = parameters.preserve;
        vec![
            beta_rule(parameters),
            (
                "preserve",
                weight.to_string(),
                from_zero(weight),
                "expected a weight from 0",
            ),
        ]
    },
    arithmetic: |_| device::Loss::Reference,
};
