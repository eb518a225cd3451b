//! Euler's method on the probability flow (Karras et al., arXiv 2206.00364, algorithm 1 without
//! churn), as `scheduling_euler_discrete.py`.

use std::sync::Arc;

use super::grid::Grid;
use super::sampler::{History, Sampler, SamplerKind};
use super::spread::{Spread, levels, plain_levels};
use crate::diffusion::schedule::{Error, Prediction, SchedulerConfig, Spacing};

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler",
    help: "Euler (`EulerDiscreteScheduler`), SDXL's own",
    set_up,
};

const GRID: Grid = Grid {
    spacing: Spacing::Linspace,
    whole: false,
    open_end: false,
};

fn set_up(config: &SchedulerConfig, steps: usize) -> Result<Arc<dyn Sampler>, Error> {
    if config.sampling.log_linear {
        return Err(KIND.refuses("interpolation_type", "log_linear", "linear"));
    }
    let timesteps = GRID.timesteps(config, steps)?;
    let levels = levels(Spread::Steps, KIND.name, config, timesteps)?;
    Ok(Arc::new(Euler::new(config, levels)))
}

/// Euler, set up.
#[derive(Debug)]
pub(super) struct Euler {
    prediction: Prediction,
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    init_noise_sigma: f32,
}

impl Euler {
    /// Sets up steps at the schedule's own noise levels: of the classes here, only Euler's follows
    /// a configuration that asks for others.
    pub(super) fn plain(config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        let timesteps = GRID.timesteps(config, steps)?;
        Ok(Self::new(config, plain_levels(config, timesteps)))
    }

    fn new(config: &SchedulerConfig, (timesteps, sigmas): (Vec<f64>, Vec<f32>)) -> Self {
        let most = sigmas.iter().copied().fold(0.0, f32::max);
        Self {
            prediction: config.prediction,
            init_noise_sigma: match config.spacing.unwrap_or(GRID.spacing) {
                Spacing::Leading => (most * most + 1.0).sqrt(),
                Spacing::Trailing | Spacing::Linspace => most,
            },
            timesteps,
            sigmas,
        }
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
