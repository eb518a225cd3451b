//! How captions fade in: what CADS does to their embeddings and Dynamic-CFG to the scale.
//!
//! γ(t) is 0 from t = τ₂ up, 1 from τ₁ down, linear between; t goes from 1 (noise) to 0 (Sadat et
//! al., arXiv 2310.17347, section 3). Mean and deviation are those of one picture's embedding, not
//! of the batch's, and the noise is addressed, so that a picture doesn't depend on its batch mates.
//!
//! The paper's rows were made by a copy of that (PopAlignSDXL, `eval/guidance_scale_hack.py`), which
//! is another method in three ways ([`Compat::Official`]): CADS' time runs from 0 to 1, so that
//! captions are whole first and drown at the end; the negative caption drowns as well; Dynamic-CFG's
//! time is that of the steps, evenly from 1 to 0, whatever timesteps they are at.

use std::str::FromStr;

use super::moment::Moment;
use super::numbers::numbers;

/// Whose annealing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// As Sadat et al. describe it
    #[default]
    Paper,
    /// As PopAlign's official code has it, whose copy made the paper's rows
    Official,
}

/// How captions fade in.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Annealing {
    /// τ₁: from here on captions are whole.
    pub whole: f64,
    /// τ₂: before this there is nothing of them.
    pub nothing: f64,
    /// s: the noise's standard deviation.
    pub noise: f64,
    /// ψ: the share of the embedding that is brought back to its mean and deviation.
    pub rescaled: f64,
}

impl Default for Annealing {
    /// What the authors use for Stable Diffusion.
    fn default() -> Self {
        Self {
            whole: 0.6,
            nothing: 0.9,
            noise: 0.25,
            rescaled: 1.0,
        }
    }
}

impl FromStr for Annealing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let [whole, nothing, noise, rescaled] = numbers(text)?;
            let unit = |x: f64| (0.0..=1.0).contains(&x);
            let times = unit(whole) && unit(nothing) && whole <= nothing;
            let rest = noise >= 0.0 && noise.is_finite() && unit(rescaled);
            (times && rest).then_some(Self {
                whole,
                nothing,
                noise,
                rescaled,
            })
        };
        parse().ok_or_else(|| {
            "expected T1,T2,S,PSI with 0 <= T1 <= T2 <= 1, S >= 0 and PSI from 0 to 1, \
             as 0.6,0.9,0.25,1"
                .to_owned()
        })
    }
}

impl Annealing {
    /// γ: how much of a caption there is at time `t`.
    pub fn share(&self, t: f64) -> f64 {
        if t <= self.whole {
            1.0
        } else if t >= self.nothing {
            0.0
        } else {
            (self.nothing - t) / (self.nothing - self.whole)
        }
    }

    /// Drowns an embedding in `noise` (standard normals) to the share `share`.
    pub(super) fn apply(&self, share: f64, values: &mut [f32], noise: &[f32]) {
        let before = Moments::of(values);
        let (keep, add) = (share.sqrt(), self.noise * (1.0 - share).sqrt());
        for (value, &n) in values.iter_mut().zip(noise) {
            *value = (keep * f64::from(*value) + add * f64::from(n)) as f32;
        }
        let after = Moments::of(values);
        // Without noise nothing may be left: then there is nothing to rescale either.
        if after.deviation <= 0.0 {
            return;
        }
        let stretch = before.deviation / after.deviation;
        for value in values {
            let x = f64::from(*value);
            let scaled = (x - after.mean) * stretch + before.mean;
            *value = (self.rescaled * scaled + (1.0 - self.rescaled) * x) as f32;
        }
    }
}

impl Compat {
    /// CADS' time of a moment.
    pub(super) fn of_captions(self, at: &Moment) -> f64 {
        match self {
            Self::Paper => at.time,
            Self::Official => 1.0 - (at.time / at.first).clamp(0.0, 1.0),
        }
    }

    /// Dynamic-CFG's time of a moment.
    #[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
    pub(super) fn of_scale(self, at: &Moment) -> f64 {
        match self {
            Self::Paper => at.time,
            Self::Official => 1.0 - at.step as f64 / (at.steps - 1).max(1) as f64,
        }
    }
}

/// Mean and standard deviation.
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

impl Moments {
    pub(super) fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
        let square = |&x: &f32| (f64::from(x) - mean).powi(2);
        let variance = values.iter().map(square).sum::<f64>() / count;
        Self {
            mean,
            deviation: variance.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annealing_keeps_mean_and_deviation_and_ends() {
        let noise: Vec<f32> = (0..64).map(|i| (i as f32 * 1.7).sin()).collect();
        let whole: Vec<f32> = (0..64).map(|i| 3.0 + (i as f32 * 0.3).cos()).collect();
        let before = Moments::of(&whole);
        for (rescaled, kept) in [(1.0, true), (0.0, false)] {
            let annealing = Annealing {
                rescaled,
                ..Annealing::default()
            };
            let mut values = whole.clone();
            annealing.apply(annealing.share(0.8), &mut values, &noise);
            let after = Moments::of(&values);
            let same = (after.mean - before.mean).abs() < 1e-5
                && (after.deviation - before.deviation).abs() < 1e-5;
            assert_eq!(same, kept);
        }
        // A constant has no deviation to bring back, and no noise to drown in.
        let silent = Annealing {
            noise: 0.0,
            ..Annealing::default()
        };
        let mut constant = [2.0; 4];
        silent.apply(0.5, &mut constant, &[1.0; 4]);
        assert!(constant.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn annealings_are_read() {
        assert_eq!("0.6,0.9,0.25,1".parse(), Ok(Annealing::default()));
        for bad in [
            "",
            "0.6,0.9,0.25",
            "0.9,0.6,0.25,1",
            "0,1,-1,1",
            "0,1,1,2",
            "0,1,NaN,1",
        ] {
            assert!(bad.parse::<Annealing>().is_err(), "{bad}");
        }
    }
}
