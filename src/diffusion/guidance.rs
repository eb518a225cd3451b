//! How captions steer a drawing: classifier-free guidance and two training-free ways to more
//! variety that the paper compares with.
//!
//! - **cfg**: the UNet runs once on a doubled batch, negative captions first; the guided
//!   prediction is `negative + scale · (positive − negative)` (Ho and Salimans, arXiv 2207.12598,
//!   as diffusers writes it). At a scale of 1 or less there is nothing to guide and the batch
//!   isn't doubled.
//! - **cads**: the captions' embeddings drown in noise at first and come out of it as the drawing
//!   goes on: `√γ·y + s·√(1−γ)·n`, brought back to y's mean and standard deviation to a share ψ.
//! - **dynamic-cfg**: the scale is multiplied by the same γ.
//!
//! γ(t) is 0 from t = τ₂ up, 1 from τ₁ down, linear between; t goes from 1 (noise) to 0 (Sadat et
//! al., arXiv 2310.17347, section 3). Mean and deviation are those of one picture's embedding, not
//! of the batch's, and the noise is addressed, so that a picture doesn't depend on its batch mates.

use std::str::FromStr;

/// The kind of guidance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuidanceKind {
    /// Plain classifier-free guidance
    Cfg,
    /// Condition-annealed sampling: captions fade in out of noise
    Cads,
    /// Classifier-free guidance whose scale fades in
    DynamicCfg,
    /// Semantic edits towards random identities (not supported yet)
    FairDiffusion,
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
            let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
            let [whole, nothing, noise, rescaled] = numbers.ok()?.try_into().ok()?;
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
    fn apply(&self, share: f64, values: &mut [f32], noise: &[f32]) {
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

/// Mean and standard deviation.
struct Moments {
    mean: f64,
    deviation: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Self {
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

/// Guidance with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance {
    /// Classifier-free guidance of a scale.
    Cfg(f32),
    /// The same with captions that fade in.
    Cads(f32, Annealing),
    /// The same with a scale that fades in.
    DynamicCfg(f32, Annealing),
}

impl Guidance {
    fn scale(&self) -> f32 {
        let (Self::Cfg(scale) | Self::Cads(scale, _) | Self::DynamicCfg(scale, _)) = self;
        *scale
    }

    /// Whether the UNet must see the negative caption too.
    pub fn doubles(&self) -> bool {
        self.scale() > 1.0
    }

    /// Replaces the first half of `predictions` (the negative captions') by the guided prediction
    /// at time `t` and returns it; `predictions` of an undoubled batch are returned as they are.
    pub fn combine<'a>(&self, t: f64, predictions: &'a mut [f32]) -> &'a [f32] {
        if !self.doubles() {
            return predictions;
        }
        let scale = match self {
            Self::DynamicCfg(scale, annealing) => (f64::from(*scale) * annealing.share(t)) as f32,
            other => other.scale(),
        };
        let (negative, positive) = predictions.split_at_mut(predictions.len() / 2);
        for (n, p) in negative.iter_mut().zip(positive) {
            *n += scale * (*p - *n);
        }
        negative
    }

    /// Whether captions' embeddings are other than whole at time `t`.
    pub fn anneals(&self, t: f64) -> bool {
        matches!(self, Self::Cads(_, annealing) if annealing.share(t) < 1.0)
    }

    /// Makes a whole embedding what the UNet sees of it at time `t`; `noise` holds as many
    /// standard normals.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn anneal(&self, t: f64, embedding: &mut [f32], noise: &[f32]) {
        assert_eq!(embedding.len(), noise.len());
        if let Self::Cads(_, annealing) = self {
            annealing.apply(annealing.share(t), embedding, noise);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_moves_from_the_negative_past_the_positive() {
        let mut rows = [1.0, -2.0, 3.0, 2.0];
        assert_eq!(Guidance::Cfg(5.0).combine(1.0, &mut rows), [11.0, 18.0]);
        let mut rows = [1.0, -2.0];
        assert_eq!(Guidance::Cfg(1.0).combine(1.0, &mut rows), [1.0, -2.0]);
    }

    #[test]
    fn a_dynamic_scale_fades_in() {
        let guidance = Guidance::DynamicCfg(4.0, Annealing::default());
        for (t, expected) in [(0.95, 1.0), (0.9, 1.0), (0.75, 5.0), (0.6, 9.0), (0.1, 9.0)] {
            let mut rows = [1.0, 3.0];
            let guided = guidance.combine(t, &mut rows)[0];
            assert!((guided - expected).abs() < 1e-5, "{t}: {guided}");
        }
    }

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
            let guidance = Guidance::Cads(5.0, annealing);
            let mut values = whole.clone();
            guidance.anneal(0.8, &mut values, &noise);
            let after = Moments::of(&values);
            let same = (after.mean - before.mean).abs() < 1e-5
                && (after.deviation - before.deviation).abs() < 1e-5;
            assert_eq!(same, kept);
            assert!(guidance.anneals(0.8) && !guidance.anneals(0.6));
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
