//! Classifier-free guidance: away from the negative caption, towards the positive one.
//!
//! The UNet runs once on a doubled batch, negative captions first; the guided prediction is
//! `negative + scale · (positive − negative)` (Ho and Salimans, arXiv 2207.12598, as diffusers
//! writes it). At a scale of 1 or less there is nothing to guide and the batch isn't doubled.

/// How the captions steer the drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuidanceKind {
    /// Plain classifier-free guidance
    Cfg,
    /// Condition-annealed sampling (not supported yet)
    Cads,
    /// A scale that grows from 0 as the noise falls (not supported yet)
    DynamicCfg,
    /// Semantic edits towards random identities (not supported yet)
    FairDiffusion,
}

impl GuidanceKind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            GuidanceKind::Cfg => "cfg",
            GuidanceKind::Cads => "cads",
            GuidanceKind::DynamicCfg => "dynamic-cfg",
            GuidanceKind::FairDiffusion => "fair-diffusion",
        }
    }
}

/// Guidance with its scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    scale: f32,
}

impl Guidance {
    /// Plain guidance of this scale.
    pub fn plain(scale: f32) -> Self {
        Self { scale }
    }

    /// Whether the UNet must see the negative caption too.
    pub fn doubles(&self) -> bool {
        self.scale > 1.0
    }

    /// Replaces the first half of `predictions` (the negative captions') by the guided prediction
    /// and returns it; `predictions` of an undoubled batch are returned as they are.
    pub fn combine<'a>(&self, predictions: &'a mut [f32]) -> &'a [f32] {
        if !self.doubles() {
            return predictions;
        }
        let (negative, positive) = predictions.split_at_mut(predictions.len() / 2);
        for (n, p) in negative.iter_mut().zip(positive) {
            *n += self.scale * (*p - *n);
        }
        negative
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_moves_from_the_negative_past_the_positive() {
        let mut rows = [1.0, -2.0, 3.0, 2.0];
        assert_eq!(Guidance::plain(5.0).combine(&mut rows), [11.0, 18.0]);
        let mut rows = [1.0, -2.0];
        assert_eq!(Guidance::plain(1.0).combine(&mut rows), [1.0, -2.0]);
    }
}
