//! Which training time steps samples get.
//!
//! A draw is a number u from 0 (no noise) to 1 (nothing but noise) that is stretched over the run's range
//! of time steps, `min + ⌊u (max − min)⌋`, as kohya does with `--min_timestep` and `--max_timestep`. How u is
//! spread is what diffusers' `compute_density_for_timestep_sampling` offers (`training_utils.py`, after
//! Esser et al., "Scaling Rectified Flow Transformers", section 3.1):
//!
//! - **uniform**, as in the paper and its code;
//! - **logit-normal**: u = σ(m + s·n) of a standard normal n. kohya's `sigmoid` with scale s is m = 0, and
//!   its `shift` by a factor f is m = ln f;
//! - **mode**: u = 1 − v − c (cos²(πv/2) − 1 + v) of a uniform v: more in the middle for c > 0, at the ends
//!   for c < 0.
//!
//! diffusers' scripts for flow models count from the noise down, so their mean m is −m here; the other
//! two are symmetric.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Result;
use super::rules::{self, Rule};
use crate::base::Values;
use crate::base::exact::sigmoid_neg;
use crate::random;
use crate::random::Stream;

/// Beyond this the map of `mode` is no longer monotone: 2 / (π − 2).
const MOST_MODE: f64 = 2.0 / (std::f64::consts::PI - 2.0);
/// What `--logit-mean` can be.
pub const LOGIT_MEANS: Values<f64> = Values::all("a number");
/// What `--logit-std` can be.
pub const LOGIT_STDS: Values<f64> = Values::above("a number", 0.0);
/// What `--mode-scale` can be.
pub const MODE_SCALES: Values<f64> = Values::within("a number", -1.0, MOST_MODE);

/// How time steps are spread over their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Every one as likely (as the paper)
    Uniform,
    /// Most around the middle, where --logit-mean and --logit-std put them
    LogitNormal,
    /// More in the middle or at the ends, by --mode-scale
    Mode,
}

/// How time steps are spread, with the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timesteps {
    /// The kind.
    #[serde(rename = "timestep_sampling")]
    pub sampling: Sampling,
    /// `logit-normal`: mean of the logit; above 0 for more noise.
    pub logit_mean: f64,
    /// `logit-normal`: its standard deviation.
    pub logit_std: f64,
    /// `mode`: how much more in the middle.
    pub mode_scale: f64,
}

impl Default for Timesteps {
    /// Uniform; the parameters are those of diffusers' SD3 scripts.
    fn default() -> Self {
        Self {
            sampling: Sampling::Uniform,
            logit_mean: 0.0,
            logit_std: 1.0,
            mode_scale: 1.29,
        }
    }
}

impl Timesteps {
    /// Refuses what can't be, naming the option.
    ///
    /// # Errors
    /// [`Error::Option`](super::Error::Option).
    pub fn check(&self) -> Result<()> {
        rules::check([
            Rule::values("logit-mean", self.logit_mean, LOGIT_MEANS),
            Rule::values("logit-std", self.logit_std, LOGIT_STDS),
            Rule::values("mode-scale", self.mode_scale, MODE_SCALES),
        ])
    }

    /// The next time step of a stream.
    pub fn draw(&self, range: &Range<usize>, stream: &mut Stream) -> usize {
        let count = range.end - range.start;
        let u = match self.sampling {
            Sampling::Uniform => return range.start + stream.below(count as u32) as usize,
            Sampling::LogitNormal => {
                let [normal, ..] = random::normals_of([stream.word(), stream.word(), 0, 0]);
                sigmoid_neg(-(self.logit_mean + self.logit_std * f64::from(normal)))
            }
            Sampling::Mode => {
                let word = stream.word();
                let v = (f64::from(word) + 0.5) / 4_294_967_296.0;
                // cos²(πv/2) = (1 + cos πv) / 2, and πv is half of v turns.
                let square = 0.5 * (1.0 + f64::from(random::sin_cos_turn(word >> 1).1));
                1.0 - v - self.mode_scale * (square - 1.0 + v)
            }
        };
        let place = (u * count as f64) as usize;
        range.start + place.min(count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    const DRAWS: usize = 20_000;

    /// How many of the draws of 1000 time steps lie below each twentieth of them.
    fn below(timesteps: &Timesteps) -> [f64; 19] {
        let drawn: Vec<usize> = (0..DRAWS as u32)
            .map(|i| {
                let mut stream = Stream::new(7, Purpose::TrainTimestep, i, 0, 3);
                timesteps.draw(&(0..1000), &mut stream)
            })
            .collect();
        std::array::from_fn(|k| {
            let count = drawn.iter().filter(|&&t| t < 50 * (k + 1)).count();
            count as f64 / DRAWS as f64
        })
    }

    fn of(sampling: Sampling, logit_mean: f64, logit_std: f64, mode_scale: f64) -> Timesteps {
        let timesteps = Timesteps {
            sampling,
            logit_mean,
            logit_std,
            mode_scale,
        };
        timesteps.check().unwrap();
        timesteps
    }

    /// Largest distance of the empirical distribution of 20,000 draws: Kolmogorov's 99.9% point.
    const FAR: f64 = 1.95 / 141.4;

    /// The distributions by scipy, held against diffusers' own draws by `scripts/oracle/timesteps.py`.
    #[test]
    fn they_are_spread_as_diffusers_spreads_them() {
        for (timesteps, expected) in [
            (
                of(Sampling::LogitNormal, 0.0, 1.0, 1.29),
                [
                    0.001618, 0.014002, 0.041406, 0.082829, 0.135969, 0.198415, 0.267945, 0.342568,
                    0.420478, 0.500000, 0.579522, 0.657432, 0.732055, 0.801585, 0.864031, 0.917171,
                    0.958594, 0.985998, 0.998382,
                ],
            ),
            (
                of(Sampling::LogitNormal, 0.8, 0.6, 1.29),
                [
                    0.000000, 0.000000, 0.000012, 0.000134, 0.000777, 0.003021, 0.009013, 0.022263,
                    0.047679, 0.091211, 0.158926, 0.255411, 0.381478, 0.531416, 0.690648, 0.835754,
                    0.940344, 0.990063, 0.999824,
                ],
            ),
            (
                of(Sampling::Mode, 0.0, 1.0, 1.29),
                [
                    0.022540, 0.046693, 0.072846, 0.101548, 0.133627, 0.170415, 0.214290, 0.270200,
                    0.351401, 0.500000, 0.648599, 0.729800, 0.785710, 0.829585, 0.866373, 0.898452,
                    0.927154, 0.953307, 0.977460,
                ],
            ),
            (
                of(Sampling::Mode, 0.0, 1.0, -0.8),
                [
                    0.116819, 0.181975, 0.233901, 0.279117, 0.320262, 0.358736, 0.395408, 0.430881,
                    0.465617, 0.500000, 0.534383, 0.569119, 0.604592, 0.641264, 0.679738, 0.720883,
                    0.766099, 0.818025, 0.883181,
                ],
            ),
        ] {
            for (k, (a, b)) in below(&timesteps).iter().zip(expected).enumerate() {
                assert!((a - b).abs() < FAR, "{timesteps:?}, {k}: {a} {b}");
            }
        }
        let uniform = below(&Timesteps::default());
        for (k, share) in uniform.iter().enumerate() {
            assert!((share - 0.05 * (k + 1) as f64).abs() < FAR);
        }
    }

    #[test]
    fn they_stay_in_their_range_and_nonsense_is_refused() {
        for sampling in [Sampling::Uniform, Sampling::LogitNormal, Sampling::Mode] {
            for (mean, std, mode) in [(40.0, 9.0, -1.0), (-40.0, 0.1, MOST_MODE), (0.0, 1.0, 0.0)] {
                let timesteps = of(sampling, mean, std, mode);
                for i in 0..500 {
                    let mut stream = Stream::new(1, Purpose::TrainTimestep, i, 0, 0);
                    let t = timesteps.draw(&(990..1000), &mut stream);
                    assert!((990..1000).contains(&t));
                }
            }
        }
        let refused = |change: fn(&mut Timesteps)| {
            let mut timesteps = Timesteps::default();
            change(&mut timesteps);
            timesteps.check().unwrap_err().to_string()
        };
        assert!(refused(|t| t.logit_std = 0.0).starts_with("--logit-std 0: expected"));
        assert!(refused(|t| t.mode_scale = 1.8).starts_with("--mode-scale 1.8: expected"));
        assert!(refused(|t| t.logit_mean = f64::NAN).starts_with("--logit-mean NaN"));
    }
}
