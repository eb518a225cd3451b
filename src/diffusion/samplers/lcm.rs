//! Multistep sampling of a latent consistency model (Luo et al., arXiv 2310.04378, algorithm 3), as
//! `scheduling_lcm.py`: each step predicts the picture, and noise brings it to the next step's level.

use std::sync::Arc;

use super::grid;
use super::sampler::{History, Sampler, SamplerKind};
use crate::diffusion::schedule::{Error, Prediction, SchedulerConfig, to_f32};

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "lcm",
    help: "Latent consistency models, in 1 to 8 steps (`LCMScheduler`)",
    set_up: |config, steps| Ok(Arc::new(Lcm::new(config, steps)?)),
};

/// What the model's boundary condition takes for the pictures' deviation.
const SIGMA_DATA: f32 = 0.5;

/// Consistency sampling, set up.
#[derive(Debug)]
struct Lcm {
    prediction: Prediction,
    timesteps: Vec<f64>,
    /// ᾱ of each step.
    alphas: Vec<f32>,
    /// What a timestep is multiplied with in the boundary condition.
    scaling: f32,
    /// The predicted picture is clamped to ± this.
    clip: Option<f32>,
}

impl Lcm {
    fn new(config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        let (lcm, n) = (&config.sampling.lcm, config.train_timesteps);
        if config.sampling.thresholding {
            return Err(KIND.refuses("thresholding", true, "false"));
        }
        if config.zero_terminal_snr && config.prediction == Prediction::Epsilon {
            return Err(KIND.refuses_pure_noise());
        }
        let most = lcm.original_steps;
        if most > n {
            let supported = "at most num_train_timesteps";
            return Err(KIND.refuses("original_inference_steps", most, supported));
        }
        if steps == 0 || steps > most {
            return Err(Error::Steps { steps, most });
        }
        let timesteps = timesteps(n / most, most, steps);
        let table = config.alphas_cumprod();
        Ok(Self {
            prediction: config.prediction,
            alphas: timesteps.iter().map(|&t| table[grid::index(t)]).collect(),
            scaling: to_f32(lcm.scaling),
            clip: lcm.clip,
            timesteps,
        })
    }

    /// How much of the sample and of the predicted picture the model's answer is.
    fn boundary(&self, i: usize) -> (f32, f32) {
        let t = to_f32(self.timesteps[i]) * self.scaling;
        let square = t * t + SIGMA_DATA * SIGMA_DATA;
        (SIGMA_DATA * SIGMA_DATA / square, t / square.sqrt())
    }
}

/// `steps` of the `all` steps of distillation, which are `skip` training steps apart, about evenly.
#[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
fn timesteps(skip: usize, all: usize, steps: usize) -> Vec<f64> {
    let apart = all as f64 / steps as f64;
    let places = (0..steps).map(|i| grid::index(i as f64 * apart));
    places
        .map(|place| ((all - place) * skip - 1) as f64)
        .collect()
}

impl Sampler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn needs_noise(&self) -> bool {
        true
    }

    fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        noise: &[f32],
        _history: &mut History,
    ) {
        assert_eq!(output.len(), sample.len());
        assert_eq!(noise.len(), sample.len());
        let alpha = self.alphas[i];
        let parts = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (skip, out) = self.boundary(i);
        let next = self.alphas.get(i + 1);
        let next = next.map(|next| (next.sqrt(), (1.0 - next).sqrt()));
        for ((x, &o), &n) in sample.iter_mut().zip(output).zip(noise) {
            let mut x0 = self.prediction.clean(o, *x, parts);
            if let Some(range) = self.clip {
                x0 = x0.clamp(-range, range);
            }
            let denoised = out * x0 + skip * *x;
            *x = next.map_or(denoised, |(keep, add)| keep * denoised + add * n);
        }
    }
}
