//! The noise levels of a sampler's steps: those of its training steps, or spread from the highest to
//! the lowest by a formula of their own, as diffusers' `use_karras_sigmas` and its like have them.

use super::grid::interpolate;
use crate::diffusion::schedule::{Error, SchedulerConfig, to_f32};
use crate::family::schedule::Respacing;

/// Karras' ρ.
const RHO: f64 = 7.0;
/// Both parameters of the beta distribution.
const SHAPE: f64 = 0.6;

/// How a sampler's class spreads noise levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// Between its first step's and its last's; timesteps are what that leads to.
    Steps,
    /// Between the schedule's highest and lowest; timesteps are whole.
    Schedule,
}

/// The steps' timesteps, and σ of each and of the end.
///
/// # Errors
/// [`Error::Sampler`] where the configuration asks for more than one formula.
pub(super) fn levels(
    spread: Spread,
    sampler: &'static str,
    config: &SchedulerConfig,
    timesteps: Vec<f64>,
) -> Result<(Vec<f64>, Vec<f32>), Error> {
    let table = config.sigmas();
    let end = match config.sampling.ends_at_lowest {
        true => table[0],
        false => 0.0,
    };
    let own: Vec<f64> = timesteps.iter().map(|&t| interpolate(&table, t)).collect();
    let (timesteps, sigmas) = match asked(config, sampler)? {
        None => (timesteps, own),
        Some(by) => {
            let [lowest, highest] = match spread {
                Spread::Steps => [own[own.len() - 1], own[0]],
                Spread::Schedule => [table[0], table[table.len() - 1]].map(f64::from),
            };
            let [low, high] = config.sampling.sigma_range;
            let (lowest, highest) = (low.unwrap_or(lowest), high.unwrap_or(highest));
            let sigmas = sigmas(by, lowest, highest, timesteps.len());
            let places = sigmas.iter().map(|&sigma| timestep(sigma, &table));
            let told = places.map(|t| match (spread, by) {
                (Spread::Steps, _) => f64::from(to_f32(t)),
                (Spread::Schedule, Respacing::Karras) => t.round_ties_even(),
                // diffusers only cuts these off.
                (Spread::Schedule, Respacing::Exponential | Respacing::Beta) => t.floor(),
            });
            (told.collect(), sigmas)
        }
    };
    let sigmas = sigmas.into_iter().map(to_f32).chain([end]);
    Ok((timesteps, sigmas.collect()))
}

/// The same at the schedule's own noise levels, down to none.
pub(super) fn plain_levels(config: &SchedulerConfig, timesteps: Vec<f64>) -> (Vec<f64>, Vec<f32>) {
    let table = config.sigmas();
    let each = timesteps.iter().map(|&t| to_f32(interpolate(&table, t)));
    let sigmas = each.chain([0.0]).collect();
    (timesteps, sigmas)
}

/// The formula that a model's configuration asks for.
fn asked(config: &SchedulerConfig, sampler: &'static str) -> Result<Option<Respacing>, Error> {
    match config.sampling.respacings[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [one, other, ..] => Err(Error::Sampler {
            sampler,
            key: other.key(),
            value: format!("true beside {}", one.key()),
            supported: "one of use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas",
        }),
    }
}

/// So many noise levels from the highest to the lowest.
#[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
fn sigmas(by: Respacing, lowest: f64, highest: f64, steps: usize) -> Vec<f64> {
    let last = (steps - 1).max(1) as f64;
    (0..steps)
        .map(|i| i as f64 / last)
        .map(|part| match by {
            Respacing::Karras => {
                let (low, high) = (lowest.powf(1.0 / RHO), highest.powf(1.0 / RHO));
                (high + part * (low - high)).powf(RHO)
            }
            Respacing::Exponential => {
                let (low, high) = (lowest.ln(), highest.ln());
                (high + part * (low - high)).exp()
            }
            Respacing::Beta => lowest + quantile(1.0 - part) * (highest - lowest),
        })
        .collect()
}

/// The training step of a noise level, interpolated in the logarithm; `table` rises.
#[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
fn timestep(sigma: f64, table: &[f32]) -> f64 {
    let log = |i: usize| f64::from(table[i].ln());
    let sigma = sigma.max(1e-10).ln();
    let above = table.partition_point(|&level| f64::from(level.ln()) <= sigma);
    let low = above.saturating_sub(1).min(table.len() - 2);
    let share = (log(low) - sigma) / (log(low) - log(low + 1));
    low as f64 + share.clamp(0.0, 1.0)
}

/// Where a share `p` of a beta distribution with [`SHAPE`] for both parameters lies below.
fn quantile(p: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p);
    }
    // The share below 1/2 is a half: the whole integral is twice that up to there.
    let wanted = p * 2.0 * below(0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = 0.5 * (low + high);
        if below(middle) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// ∫₀ˣ (t(1−t))^(a−1) dt for x up to 1/2, by the binomial series of (1−t)^(a−1), whose terms fall
/// by at least half each.
fn below(x: f64) -> f64 {
    let (mut sum, mut term) = (0.0, 1.0);
    for k in 0..f64::MANTISSA_DIGITS {
        let k = f64::from(k);
        sum += term / (SHAPE + k);
        term *= (1.0 - SHAPE + k) / (1.0 + k) * x;
    }
    sum * x.powf(SHAPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.beta.ppf(p, 0.6, 0.6)` of scipy 1.17.
    const QUANTILES: [(f64, f64); 8] = [
        (0.0, 0.0),
        (0.001, 1.855_873_851_745_199e-5),
        (0.1, 0.039_584_405_588_780_85),
        (0.3, 0.234_017_003_875_235_72),
        (0.5, 0.5),
        (0.77, 0.846_162_414_232_350_2),
        (0.999, 0.999_981_441_261_482_6),
        (1.0, 1.0),
    ];

    #[test]
    fn quantiles_are_scipys() {
        for (p, expected) in QUANTILES {
            assert!(
                (quantile(p) - expected).abs() < 1e-12,
                "{p}: {}",
                quantile(p)
            );
        }
    }
}
