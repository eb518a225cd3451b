//! Population alignment: every picture against the batch's mean implied reward.
//!
//! With g_i = ref_mse_i − mse_i and s_i = 1 for winners and −1 for losers,
//!
//! ```text
//! μ = α mean(g of winners) + (1 − α) mean(g of losers), detached
//! L = mean of −ln σ(s_i β (g_i − μ))
//! ```
//!
//! The PopAlign paper's equation 14 as its official `main.py` computes it (`loss=popalign`,
//! `bce_offset=sigmoid`).

use super::loss::{Loss, Takes, beta_rule};
use crate::align::rules::Rule;
use crate::base::Values;
use crate::device;

/// The default weight of the winners in μ: the plain mean of all.
pub const ALPHA: f64 = 0.5;
/// What it can be.
pub const ALPHAS: Values<f64> = Values::within("a share", 0.0, 1.0);

/// The loss.
pub static LOSS: Loss = Loss {
    name: "popalign",
    about: "PopAlign: every picture against the batch's mean implied reward",
    takes: Takes::Pairs,
    weight: |_| 1.0,
    rules: |parameters| {
        vec![
            beta_rule(parameters),
            Rule::values("alpha", parameters.alpha, ALPHAS),
        ]
    },
    by_snr: false,
    arithmetic: |parameters| device::Loss::Offset {
        alpha: parameters.alpha,
    },
};
