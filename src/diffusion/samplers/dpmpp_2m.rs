//! DPM-Solver++, second order multistep, midpoint (Lu et al., arXiv 2211.01095, algorithm 2), as
//! `scheduling_dpmsolver_multistep.py`. The first step is of first order, and so is one to no noise.

use std::sync::Arc;

use super::grid::Grid;
use super::sampler::{History, Sampler, SamplerKind};
use super::spread::{Spread, levels};
use crate::diffusion::schedule::{Error, Prediction, SchedulerConfig, Spacing};
use crate::family::schedule::Respacing;

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "dpmpp_2m",
    help: "DPM-Solver++, second order multistep, midpoint (`DPMSolverMultistepScheduler`)",
    set_up: |config, steps| Ok(Arc::new(Dpmpp2m::new(KIND, config, steps)?)),
};

/// The same at Karras' noise levels, whatever the model's configuration says of them.
pub(super) const KARRAS: SamplerKind = SamplerKind {
    name: "dpmpp_2m_karras",
    help: "The same at Karras' noise levels (`use_karras_sigmas=True`)",
    set_up: |config, steps| {
        let mut config = config.clone();
        config.sampling.respacings = vec![Respacing::Karras];
        Ok(Arc::new(Dpmpp2m::new(KARRAS, &config, steps)?))
    },
};

const GRID: Grid = Grid {
    spacing: Spacing::Linspace,
    whole: true,
    open_end: true,
};

/// Fewer steps than this end with one of first order.
const FEW: usize = 15;

/// DPM-Solver++, set up.
#[derive(Debug)]
struct Dpmpp2m {
    prediction: Prediction,
    /// Whether the last step is of first order.
    first_order_final: bool,
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
}

impl Dpmpp2m {
    fn new(kind: SamplerKind, config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        check(kind, config)?;
        let timesteps = GRID.timesteps(config, steps)?;
        let (timesteps, sigmas) = levels(Spread::Schedule, kind.name, config, timesteps)?;
        let solver = &config.sampling.solver;
        Ok(Self {
            prediction: config.prediction,
            first_order_final: !config.sampling.ends_at_lowest
                || solver.euler_at_final
                || solver.lower_order_final && steps < FEW,
            sigmas,
            timesteps,
        })
    }
}

/// Refuses a configuration that makes another solver of diffusers' class.
fn check(of: SamplerKind, config: &SchedulerConfig) -> Result<(), Error> {
    let solver = &config.sampling.solver;
    let (algorithm, kind) = (solver.algorithm.as_str(), solver.kind.as_str());
    if config.sampling.thresholding {
        return Err(of.refuses("thresholding", true, "false"));
    }
    if solver.lu_lambdas {
        return Err(of.refuses("use_lu_lambdas", true, "false"));
    }
    if solver.order != 2 {
        return Err(of.refuses("solver_order", solver.order, "2"));
    }
    // What other solvers call theirs is this one in diffusers' class too.
    if !["dpmsolver++", "deis"].contains(&algorithm) {
        return Err(of.refuses("algorithm_type", algorithm, "dpmsolver++, deis"));
    }
    if !["midpoint", "logrho", "bh1", "bh2"].contains(&kind) {
        return Err(of.refuses("solver_type", kind, "midpoint, logrho, bh1, bh2"));
    }
    let lowest = config
        .sigmas()
        .last()
        .map_or(0.0, |sigma| -f64::from(sigma.ln()));
    if solver.lambda_min > lowest {
        let supported = "what is below every step, such as -Infinity";
        return Err(of.refuses("lambda_min_clipped", solver.lambda_min, supported));
    }
    Ok(())
}

impl Sampler for Dpmpp2m {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The history is the clean latent predicted at the step before.
    fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        _noise: &[f32],
        history: &mut History,
    ) {
        assert_eq!(output.len(), sample.len());
        let parts @ (alpha_s, sigma_s) = alpha_sigma(self.sigmas[i]);
        let (alpha_t, sigma_t) = alpha_sigma(self.sigmas[i + 1]);
        let x0: Vec<f32> = sample
            .iter()
            .zip(output)
            .map(|(&x, &out)| self.prediction.clean(out, x, parts))
            .collect();
        let lambda = |(alpha, sigma): (f32, f32)| alpha.ln() - sigma.ln();
        let h = lambda((alpha_t, sigma_t)) - lambda((alpha_s, sigma_s));
        let keep = sigma_t / sigma_s;
        let pull = alpha_t * ((-h).exp() - 1.0);
        let last = self.first_order_final && i + 1 == self.steps();
        match history.kept.first().filter(|_| !last) {
            None => {
                for (x, &x0) in sample.iter_mut().zip(&x0) {
                    *x = keep * *x - pull * x0;
                }
            }
            Some(before) => {
                let h0 = lambda((alpha_s, sigma_s)) - lambda(alpha_sigma(self.sigmas[i - 1]));
                let slope = 1.0 / (h0 / h);
                for ((x, &x0), &x1) in sample.iter_mut().zip(&x0).zip(before) {
                    *x = keep * *x - pull * x0 - 0.5 * pull * (slope * (x0 - x1));
                }
            }
        }
        history.kept = vec![x0];
    }
}

/// α and σ of the variance-preserving process at σ/α = `sigma`.
fn alpha_sigma(sigma: f32) -> (f32, f32) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}
