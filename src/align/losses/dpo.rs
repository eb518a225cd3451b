//! Diffusion-DPO: the winner against the loser of each pair.
//!
//! ```text
//! L = mean over pairs of −ln σ(β (g_w − g_l) / 2)
//! ```
//!
//! Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", equation 14.

use super::loss::{Loss, Takes, beta_rule};
use crate::device;

/// The loss.
pub static LOSS: Loss = Loss {
    name: "dpo",
    about: "Diffusion-DPO: the winner against the loser of each pair",
    takes: Takes::Pairs,
    weight: |_| 1.0,
    rules: |parameters| vec![beta_rule(parameters)],
    by_snr: false,
    arithmetic: |_| device::Loss::Lead { set: 1 },
};
