//! The noise that a model was trained with, step by step, and why a sampler can't follow it.
//!
//! What the model's configuration says is read in [`crate::family::schedule`].

pub use crate::family::Prediction;
use crate::family::schedule::Betas;
pub use crate::family::schedule::{SchedulerConfig, Spacing};

/// ᾱ that diffusers' samplers by noise level take for pure noise: the smallest number of half
/// precision, so that σ is finite.
const NEARLY_NOISE: f32 = 1.0 / 16_777_216.0;

/// Why a schedule cannot be sampled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scheduler's configuration.
    #[error(transparent)]
    Config(#[from] crate::family::schedule::Error),
    /// A key that other samplers leave alone or do.
    #[error(
        "the model's scheduler_config.json: `{key}` is {value}; sampler {sampler} supports: {supported}"
    )]
    Sampler {
        /// The sampler.
        sampler: &'static str,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that would do.
        supported: &'static str,
    },
    /// More steps than the model was trained with, or none.
    #[error("--steps is {steps}, expected 1..={most} for this model and sampler")]
    Steps {
        /// The number asked for.
        steps: usize,
        /// The most there can be.
        most: usize,
    },
}

impl SchedulerConfig {
    /// ᾱ of every training step: the share of the clean latent's variance that is left.
    pub fn alphas_cumprod(&self) -> Vec<f32> {
        let alphas = cumulated(&self.betas());
        match self.zero_terminal_snr {
            true => cumulated(&rescaled(&alphas)),
            false => alphas,
        }
    }

    /// σ = √((1−ᾱ)/ᾱ) of every training step.
    pub fn sigmas(&self) -> Vec<f32> {
        let mut alphas = self.alphas_cumprod();
        if let Some(last) = alphas.last_mut().filter(|_| self.zero_terminal_snr) {
            *last = NEARLY_NOISE;
        }
        alphas
            .into_iter()
            .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
            .collect()
    }

    fn betas(&self) -> Vec<f32> {
        let n = self.train_timesteps;
        match &self.betas {
            Betas::Linear([start, end]) => linspace(*start, *end, n),
            Betas::ScaledLinear([start, end]) => linspace(start.sqrt(), end.sqrt(), n)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            Betas::Trained(betas) => betas.clone(),
        }
    }
}

/// The products of 1 − β so far.
fn cumulated(betas: &[f32]) -> Vec<f32> {
    // torch multiplies in double precision and rounds each element.
    let mut product = 1.0f64;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            to_f32(product)
        })
        .collect()
}

/// Betas whose last step is pure noise and whose first is as it was: √ᾱ, shifted and scaled
/// (arXiv 2305.08891, algorithm 1).
fn rescaled(alphas: &[f32]) -> Vec<f32> {
    let mut roots: Vec<f32> = alphas.iter().map(|alpha| alpha.sqrt()).collect();
    if let (Some(&first), Some(&last)) = (roots.first(), roots.last()) {
        let scale = first / (first - last);
        roots
            .iter_mut()
            .for_each(|root| *root = (*root - last) * scale);
    }
    let alphas = roots.iter().map(|root| root * root);
    let before = std::iter::once(1.0).chain(alphas.clone());
    alphas
        .zip(before)
        .map(|(alpha, before)| 1.0 - alpha / before)
        .collect()
}

/// `torch.linspace` in float32: from both ends towards the middle.
#[expect(
    clippy::cast_precision_loss,
    reason = "as torch: step numbers are small"
)]
fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (to_f32(start), to_f32(end));
    let step = (end - start) / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                start + step * i as f32
            } else {
                end - step * (n - 1 - i) as f32
            }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to float32 is meant"
)]
pub(super) fn to_f32(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(json: &str) -> SchedulerConfig {
        SchedulerConfig::parse(json.as_bytes(), Path::new("scheduler_config.json")).unwrap()
    }

    #[test]
    fn sdxl_has_the_published_ends() {
        let config =
            parse(r#"{"beta_schedule":"scaled_linear","beta_start":0.00085,"beta_end":0.012}"#);
        let sigmas = config.sigmas();
        // Calculated in double precision. At the clean end 1 − ᾱ is a difference of nearly equal
        // float32 numbers, in diffusers too: half an ulp of 1 is 7e-5 of it.
        assert!(
            (sigmas[0] / 0.029_167_2 - 1.0).abs() < 1e-4,
            "{}",
            sigmas[0]
        );
        assert!(
            (sigmas[999] / 14.614_641 - 1.0).abs() < 1e-5,
            "{}",
            sigmas[999]
        );
        assert!((config.alphas_cumprod()[999] / 0.004_660_099 - 1.0).abs() < 1e-5);
    }

    #[test]
    fn zero_terminal_snr_ends_in_pure_noise_and_keeps_the_first_step() {
        let text = r#"{"beta_schedule":"scaled_linear","beta_start":0.00085,"beta_end":0.012"#;
        let plain = parse(&format!("{text}}}")).alphas_cumprod();
        let zero = parse(&format!(r#"{text},"rescale_betas_zero_snr":true}}"#));
        let alphas = zero.alphas_cumprod();
        assert_eq!(alphas[999], 0.0);
        assert!((alphas[0] - plain[0]).abs() < 1e-6);
        assert!((zero.sigmas()[999] - 4096.0).abs() < 0.01);
    }

    #[test]
    fn trained_betas_stand_for_themselves() {
        let config = parse(r#"{"num_train_timesteps":3,"trained_betas":[0.1,0.5,0.0]}"#);
        let expected = [0.9f32, 0.45, 0.45];
        for (alpha, expected) in config.alphas_cumprod().into_iter().zip(expected) {
            assert!((alpha - expected).abs() < 1e-6);
        }
    }
}
