//! Euler's method on the probability flow (Karras et al., arXiv 2206.00364, algorithm 1 without
//! churn), as `scheduling_euler_discrete.py`.

use std::sync::Arc;

use super::grid::{self, Grid};
use super::sampler::{History, Sampler, SamplerKind};
use crate::diffusion::schedule::{Error, Prediction, SchedulerConfig, Spacing};

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler",
    help: "Euler (`EulerDiscreteScheduler`), SDXL's own",
    set_up: |config, steps| Ok(Arc::new(Euler::new(config, steps)?)),
};

const GRID: Grid = Grid {
    spacing: Spacing::Linspace,
    whole: false,
    open_end: false,
};

/// Euler, set up.
#[derive(Debug)]
pub(super) struct Euler {
    prediction: Prediction,
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    init_noise_sigma: f32,
}

impl Euler {
    /// Sets up `steps` steps of the model's schedule.
    pub(super) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        let timesteps = GRID.timesteps(config, steps)?;
        let sigmas = grid::sigmas(config, &timesteps);
        let most = sigmas.iter().copied().fold(0.0, f32::max);
        Ok(Self {
            prediction: config.prediction,
            init_noise_sigma: match config.spacing.unwrap_or(GRID.spacing) {
                Spacing::Leading => (most * most + 1.0).sqrt(),
                Spacing::Trailing | Spacing::Linspace => most,
            },
            timesteps,
            sigmas,
        })
    }

    /// Moves `sample` from step `i` to σ = `target`.
    pub(super) fn step_to(&self, target: f32, i: usize, output: &[f32], sample: &mut [f32]) {
        assert_eq!(output.len(), sample.len());
        let sigma = self.sigmas[i];
        let dt = target - sigma;
        for (x, &out) in sample.iter_mut().zip(output) {
            let x0 = match self.prediction {
                Prediction::Epsilon => *x - sigma * out,
                Prediction::VPrediction => {
                    let square = sigma * sigma + 1.0;
                    out * (-sigma / square.sqrt()) + *x / square
                }
            };
            *x += (*x - x0) / sigma * dt;
        }
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    fn input_divisor(&self, i: usize) -> f32 {
        let sigma = self.sigmas[i];
        (sigma * sigma + 1.0).sqrt()
    }

    fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        _noise: &[f32],
        _history: &mut History,
    ) {
        self.step_to(self.sigmas[i + 1], i, output, sample);
    }
}
