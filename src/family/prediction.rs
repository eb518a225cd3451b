//! What a UNet predicts.

/// What the UNet predicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise; so where a model doesn't say, in every family.
    #[default]
    Epsilon,
    /// The velocity √ᾱ·ε − √(1−ᾱ)·x₀ (Imagen Video, section 2.4).
    VPrediction,
}

impl Prediction {
    /// Its name as `prediction_type` in a scheduler's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Prediction::Epsilon => "epsilon",
            Prediction::VPrediction => "v_prediction",
        }
    }

    /// The clean sample x₀ that an output means for the sample √ᾱ·x₀ + √(1−ᾱ)·ε; `parts` are √ᾱ and √(1−ᾱ).
    pub fn clean(self, output: f32, sample: f32, parts: (f32, f32)) -> f32 {
        let (signal, noise) = parts;
        match self {
            Prediction::Epsilon => (sample - noise * output) / signal,
            Prediction::VPrediction => signal * sample - noise * output,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Prediction::Epsilon, Prediction::VPrediction];
        all.into_iter().find(|prediction| prediction.name() == name)
    }
}
