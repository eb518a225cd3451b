//! Min-SNR weighting: what a time step's error counts in plain fine-tuning.
//!
//! ```text
//! SNR = ᾱ / (1 − ᾱ)
//! w = min(SNR, γ) / SNR          where the network predicts the noise
//! w = min(SNR, γ) / (SNR + 1)    where it predicts v
//! ```
//!
//! Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", as diffusers' training
//! scripts have it (`--snr_gamma`, `compute_snr`). It weights an error that is minimised as such. The
//! losses of implied rewards compare errors of one time step, and β has its meaning at weight 1, so they
//! refuse it.

use crate::align::rules::Rule;
use crate::base::Values;
use crate::family::Prediction;

/// What γ can be.
pub const GAMMAS: Values<f64> = Values::above("a number", 0.0);

/// The rule of γ, where there is one.
pub(super) fn rule(gamma: Option<f64>) -> Option<Rule> {
    gamma.map(|gamma| Rule::values("snr-gamma", gamma, GAMMAS))
}

/// The weight of a time step that leaves the share `alpha` (ᾱ) of the clean latent's variance.
pub fn weight(gamma: f64, alpha: f32, prediction: Prediction) -> f32 {
    let alpha = f64::from(alpha);
    let (signal, noise) = (alpha, 1.0 - alpha);
    // With both sides multiplied by 1 − ᾱ neither pure noise nor none divides by zero.
    let least = signal.min(gamma * noise);
    let weight = match prediction {
        Prediction::Epsilon if signal == 0.0 => 1.0,
        Prediction::Epsilon => least / signal,
        Prediction::VPrediction => least,
    };
    weight as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// diffusers' weights at γ = 5 by `scripts/oracle/min_snr.py`: its `compute_snr` of SDXL's schedule.
    const REFERENCE: [(f64, f64, f64); 12] = [
        (0.999_149_978, 0.004_253_724_12, 0.004_250_108_73),
        (0.998_296_022, 0.008_534_430_53, 0.008_519_887_92),
        (0.951_576_65, 0.254_437_476, 0.242_116_749),
        (0.827_811_36, 1.0, 0.827_811_36),
        (0.761_399_746, 1.0, 0.761_399_746),
        (0.753_691_733, 1.0, 0.753_691_792),
        (0.673_792_303, 1.0, 0.673_792_303),
        (0.424_482_793, 1.0, 0.424_482_822),
        (0.160_782_456, 1.0, 0.160_782_471),
        (0.036_869_585_5, 1.0, 0.036_869_585_5),
        (0.008_247_107_27, 1.0, 0.008_247_106_34),
        (0.004_660_095_09, 1.0, 0.004_660_094_16),
    ];

    #[test]
    fn weights_are_diffusers() {
        for (alpha, epsilon, v) in REFERENCE {
            for (prediction, expected) in
                [(Prediction::Epsilon, epsilon), (Prediction::VPrediction, v)]
            {
                let found = f64::from(weight(5.0, alpha as f32, prediction));
                // A square root, its square and two divisions in single precision.
                assert!(
                    (found / expected - 1.0).abs() < 8.0 * f64::from(f32::EPSILON),
                    "{prediction:?} at {alpha}: {found}, not {expected}"
                );
            }
        }
    }

    /// A schedule with zero terminal SNR ends at pure noise, where diffusers' formula for noise is 0 / 0;
    /// its limit is 1.
    #[test]
    fn the_ends_of_the_schedule_have_weights() {
        assert_eq!(weight(5.0, 0.0, Prediction::Epsilon), 1.0);
        assert_eq!(weight(5.0, 0.0, Prediction::VPrediction), 0.0);
        assert_eq!(weight(5.0, 1.0, Prediction::Epsilon), 0.0);
        assert_eq!(weight(5.0, 1.0, Prediction::VPrediction), 0.0);
    }
}
