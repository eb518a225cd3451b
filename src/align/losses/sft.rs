//! Plain fine-tuning on the winners: the error that diffusion models are trained with.
//!
//! ```text
//! L = mean over winners of w mse
//! ```
//!
//! w is 1, or the time step's with `--snr-gamma` ([`min_snr`]).
//! β scales the logged margin only.

use super::loss::{Loss, Takes, beta_rule};
use super::min_snr;
use crate::device;

/// The loss.
pub static LOSS: Loss = Loss {
    name: "sft",
    about: "Plain fine-tuning on the winners",
    takes: Takes::Pairs,
    weight: |_| 1.0,
    rules: |parameters| {
        let gamma = min_snr::rule(parameters.snr_gamma);
        std::iter::once(beta_rule(parameters))
            .chain(gamma)
            .collect()
    },
    by_snr: true,
    arithmetic: |_| device::Loss::Error,
};
