//! Learning-rate schedules, as diffusers' `optimization.py` defines them.

/// How the learning rate goes over the steps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LrSchedule {
    /// The same from the first step
    Constant,
    /// Rising over --warmup steps, then the same (as the paper's code)
    ConstantWithWarmup,
    /// Rising over --warmup steps, then falling to 0 in a straight line
    Linear,
    /// Rising over --warmup steps, then falling to 0 along a half cosine
    Cosine,
}

impl LrSchedule {
    /// Whether the rate depends on how many steps there are in all.
    pub fn needs_total(self) -> bool {
        matches!(self, Self::Linear | Self::Cosine)
    }

    /// The factor on the learning rate at update `step`, counted from 0. As in diffusers the first
    /// update of a warm-up has factor 0.
    pub fn factor(self, step: u32, warmup: u32, total: u32) -> f64 {
        if self == Self::Constant {
            return 1.0;
        }
        if step < warmup {
            return f64::from(step) / f64::from(warmup.max(1));
        }
        let falling = f64::from(total.saturating_sub(warmup).max(1));
        match self {
            Self::Constant | Self::ConstantWithWarmup => 1.0,
            Self::Linear => f64::from(total.saturating_sub(step)) / falling,
            Self::Cosine => {
                let progress = f64::from(step - warmup) / falling;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LrSchedule::{Constant, ConstantWithWarmup, Cosine, Linear};

    #[test]
    fn factors_are_diffusers() {
        assert_eq!(Constant.factor(0, 10, 100), 1.0);
        assert_eq!(ConstantWithWarmup.factor(0, 10, 100), 0.0);
        assert_eq!(ConstantWithWarmup.factor(5, 10, 100), 0.5);
        assert_eq!(ConstantWithWarmup.factor(10, 10, 100), 1.0);
        assert_eq!(ConstantWithWarmup.factor(0, 0, 100), 1.0);
        assert_eq!(Linear.factor(10, 10, 110), 1.0);
        assert_eq!(Linear.factor(60, 10, 110), 0.5);
        assert!((Cosine.factor(60, 10, 110) - 0.5).abs() < 1e-15);
        assert_eq!(Cosine.factor(110, 10, 110), 0.0);
    }
}
