//! Diffusion-DPO on sets: the winning set of a draw against the losing one.
//!
//! ```text
//! L = mean over sets of −ln σ(β Σ over the set of (g_w − g_l) / 2)
//! ```
//!
//! The PopAlign paper's equation 8, before Jensen's inequality makes pairs of sets: the log of a product
//! of likelihoods is their sum, each term estimated at its pair's time step as Diffusion-DPO does.

use super::loss::{Loss, Takes, beta_rule};
use crate::device;

/// The loss.
pub static LOSS: Loss = Loss {
    name: "set",
    about: "The paper's equation before it is bounded by pairs: the winning set against the losing set",
    takes: Takes::Sets,
    weight: |_| 1.0,
    rules: |parameters| vec![beta_rule(parameters)],
    by_snr: false,
    arithmetic: |parameters| device::Loss::Lead {
        set: parameters.set_size,
    },
};
