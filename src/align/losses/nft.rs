//! The model's own pictures, each by its advantage (`--online`): DiffusionNFT's loss on the forward process.
//!
//! ```text
//! v⁺ = (1 − b) v_old + b v,   v⁻ = (1 + b) v_old − b v,   r = (1 + a) / 2
//! L = mean of r |v⁺ − t|² + (1 − r) |v⁻ − t|²
//! ```
//!
//! v is what the LoRA predicts for a noised picture, v_old what the LoRA predicts that drew it, t the target
//! of the noise, a the picture's advantage in −1…1, b the strength. (arXiv:2509.16117; in the
//! authors' code `train_nft_sd3.py`, without the division of each error by its own size.) Completing the square,
//!
//! ```text
//! L = mean of b² |v − t′|² + (1 − a²) |v_old − t|²,   t′ = v_old + (a / b) (t − v_old)
//! ```
//!
//! of which the second part is a constant. So the gradient is that of plain errors against moved targets t′
//! ([`crate::align::online::aim`]), which is what the training graph computes; the first part is what is logged.

use super::loss::{Loss, Takes};
use crate::align::rules::Rule;
use crate::base::Values;
use crate::device;

/// The default strength.
pub const STRENGTH: f64 = 1.0;
/// What it can be.
pub const STRENGTHS: Values<f64> = Values::within("a number", 1e-3, 1e3);

/// The loss.
pub static LOSS: Loss = Loss {
    name: "nft",
    about: "The model's own pictures by their advantage",
    takes: Takes::Drawn,
    weight: |_| 1.0,
    rules: |parameters| {
        let rule = |strength| Rule::values("online-strength", strength, STRENGTHS);
        parameters.strength.map(rule).into_iter().collect()
    },
    by_snr: false,
    arithmetic: |_| device::Loss::Each,
};
