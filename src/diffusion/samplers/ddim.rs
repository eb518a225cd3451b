//! DDIM with η = 0 (Song et al., arXiv 2010.02502, equation 12), as `scheduling_ddim.py`.

use std::sync::Arc;

use super::grid::{self, Grid};
use super::sampler::{History, Sampler, SamplerKind};
use crate::diffusion::schedule::{Error, Prediction, SchedulerConfig, Spacing};

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "ddim",
    help: "DDIM with η = 0 (`DDIMScheduler`)",
    set_up: |config, steps| Ok(Arc::new(Ddim::new(config, steps)?)),
};

const GRID: Grid = Grid {
    spacing: Spacing::Leading,
    whole: true,
    open_end: false,
};

/// DDIM, set up.
#[derive(Debug)]
struct Ddim {
    prediction: Prediction,
    timesteps: Vec<f64>,
    /// ᾱ of each step and of the one after it.
    alphas: Vec<(f32, f32)>,
    /// The predicted picture is clamped to ± this.
    clip: Option<f32>,
}

impl Ddim {
    fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        if config.sampling.thresholding {
            return Err(KIND.refuses("thresholding", true, "false"));
        }
        if config.zero_terminal_snr && config.prediction == Prediction::Epsilon {
            return Err(KIND.refuses_pure_noise());
        }
        let timesteps = GRID.timesteps(config, steps)?;
        let table = config.alphas_cumprod();
        let last = match config.set_alpha_to_one {
            true => 1.0,
            false => table[0],
        };
        let ratio = config.train_timesteps / steps;
        let alphas = timesteps.iter().map(|&t| {
            let t = grid::index(t).min(table.len() - 1);
            (table[t], t.checked_sub(ratio).map_or(last, |t| table[t]))
        });
        Ok(Self {
            prediction: config.prediction,
            alphas: alphas.collect(),
            clip: config.clip_sample,
            timesteps,
        })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        _noise: &[f32],
        _history: &mut History,
    ) {
        assert_eq!(output.len(), sample.len());
        let (alpha, next) = self.alphas[i];
        let (root_alpha, root_beta) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (root_next, direction) = (next.sqrt(), (1.0 - next).sqrt());
        for (x, &out) in sample.iter_mut().zip(output) {
            let mut x0 = self.prediction.clean(out, *x, (root_alpha, root_beta));
            let noise = match self.prediction {
                Prediction::Epsilon => out,
                Prediction::VPrediction => root_alpha * out + root_beta * *x,
            };
            if let Some(range) = self.clip {
                x0 = x0.clamp(-range, range);
            }
            *x = root_next * x0 + direction * noise;
        }
    }
}
