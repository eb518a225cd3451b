//! Which of the training's steps a sampler takes.

use crate::diffusion::schedule::{Error, SchedulerConfig, Spacing, to_f32};

/// How a sampler spreads its steps over the training steps.
#[derive(Debug)]
pub(super) struct Grid {
    /// The spacing where the model's schedule doesn't say.
    pub(super) spacing: Spacing,
    /// Whether timesteps are whole numbers under linspace spacing too.
    pub(super) whole: bool,
    /// Whether to divide into one part more and leave the clean end out; that is one step fewer
    /// that can be made.
    pub(super) open_end: bool,
}

impl Grid {
    /// The timesteps, from noise to picture.
    ///
    /// # Errors
    /// [`Error::Steps`] for no steps, or more than there are.
    #[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
    pub(super) fn timesteps(
        &self,
        config: &SchedulerConfig,
        steps: usize,
    ) -> Result<Vec<f64>, Error> {
        let (n, spare) = (config.train_timesteps, usize::from(self.open_end));
        let most = n - spare;
        if steps == 0 || steps > most {
            return Err(Error::Steps { steps, most });
        }
        let points = steps + spare;
        Ok(match config.spacing.unwrap_or(self.spacing) {
            Spacing::Leading => {
                let ratio = n / points;
                (points - steps..points)
                    .rev()
                    .map(|i| (i * ratio + config.steps_offset) as f64)
                    .collect()
            }
            Spacing::Trailing => {
                let ratio = n as f64 / steps as f64;
                (0..steps)
                    .map(|i| (n as f64 - i as f64 * ratio).round_ties_even() - 1.0)
                    .collect()
            }
            Spacing::Linspace => {
                let step = (n - 1) as f64 / (points - 1).max(1) as f64;
                (points - steps..points)
                    .rev()
                    .map(|i| i as f64 * step)
                    .map(|t| match self.whole {
                        true => t.round_ties_even(),
                        false => f64::from(to_f32(t)),
                    })
                    .collect()
            }
        })
    }
}

/// The place of a timestep in a table of the training steps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "timesteps are small and not negative"
)]
pub(super) fn index(t: f64) -> usize {
    t.max(0.0) as usize
}

/// `numpy.interp` of a table at its indices: clamped at both ends.
pub(super) fn interpolate(table: &[f32], t: f64) -> f64 {
    let low = index(t).min(table.len() - 1);
    let high = (low + 1).min(table.len() - 1);
    let (a, b) = (f64::from(table[low]), f64::from(table[high]));
    a + (b - a) * (t - t.floor())
}
