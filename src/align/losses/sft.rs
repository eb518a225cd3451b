//! Plain fine-tuning on the winners: the error that diffusion models are trained with.
//!
//! ```text
//! L = mean over winners of mse
//! ```
//!
//! β scales the logged margin only.

use super::loss::{Loss, Takes, beta_rule};
use crate::device;

/// The loss.
pub static LOSS: Loss = Loss {
    name: "sft",
    about: "Plain fine-tuning on the winners",
    takes: Takes::Pairs,
    weight: |_| 1.0,
    rules: |parameters| vec![beta_rule(parameters)],
    arithmetic: |_| device::Loss::Error,
};
