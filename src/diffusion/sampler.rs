//! Samplers: from noise to a latent, one UNet call at a time.
//!
//! Arithmetic, its order and its precision (float32 scalars and all) follow diffusers
//! (`scheduling_euler_discrete.py`, `scheduling_euler_ancestral_discrete.py`,
//! `scheduling_ddim.py`, `scheduling_dpmsolver_multistep.py`), so that the same initial latents
//! give the same picture there. Every operation is element by element: a batch is only a longer
//! slice, and no sample sees its neighbours.

use super::schedule::{Error, Prediction, SchedulerConfig, Spacing, to_f32};

/// Which sampler.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Euler (`EulerDiscreteScheduler`), SDXL's own.
    Euler,
    /// Euler with fresh noise each step (`EulerAncestralDiscreteScheduler`).
    #[value(name = "euler_a")]
    EulerA,
    /// DDIM with η = 0 (`DDIMScheduler`).
    Ddim,
    /// DPM-Solver++, second order multistep, midpoint (`DPMSolverMultistepScheduler`).
    #[value(name = "dpmpp_2m")]
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
}

/// A sampler set up for a number of steps.
#[derive(Debug, Clone)]
pub struct Sampler {
    kind: SamplerKind,
    prediction: Prediction,
    timesteps: Vec<f64>,
    /// σ of each step, and of the end (0). Empty for DDIM.
    sigmas: Vec<f32>,
    /// ᾱ of each step and of the one after it. Only for DDIM.
    alphas: Vec<(f32, f32)>,
    clip: Option<f32>,
    init_noise_sigma: f32,
}

/// What a multistep sampler remembers of the steps before.
#[derive(Debug, Clone, Default)]
pub struct History {
    x0: Option<Vec<f32>>,
}

impl Sampler {
    /// Sets up `steps` steps of the model's schedule.
    pub fn new(kind: SamplerKind, config: &SchedulerConfig, steps: usize) -> Result<Self, Error> {
        // DPM-Solver leaves the last training step out, so it can make one step fewer.
        let spare = usize::from(kind == SamplerKind::Dpmpp2m);
        let most = config.train_timesteps - spare;
        if steps == 0 || steps > most {
            return Err(Error::Steps { steps, most });
        }
        let timesteps = timesteps(kind, config, steps);
        let mut sampler = Self {
            kind,
            prediction: config.prediction,
            sigmas: Vec::new(),
            alphas: Vec::new(),
            clip: None,
            init_noise_sigma: 1.0,
            timesteps,
        };
        match kind {
            SamplerKind::Ddim => sampler.set_alphas(config),
            _ => sampler.set_sigmas(config),
        }
        Ok(sampler)
    }

    fn set_sigmas(&mut self, config: &SchedulerConfig) {
        let table = config.sigmas();
        self.sigmas = self
            .timesteps
            .iter()
            .map(|&t| interpolate(&table, t))
            .collect();
        self.sigmas.push(0.0);
        if self.kind != SamplerKind::Dpmpp2m {
            let most = self.sigmas.iter().copied().fold(0.0, f32::max);
            self.init_noise_sigma = match config.spacing.unwrap_or(Spacing::Linspace) {
                Spacing::Leading => (most * most + 1.0).sqrt(),
                Spacing::Trailing | Spacing::Linspace => most,
            };
        }
    }

    fn set_alphas(&mut self, config: &SchedulerConfig) {
        let table = config.alphas_cumprod();
        let last = if config.set_alpha_to_one {
            1.0
        } else {
            table[0]
        };
        let ratio = config.train_timesteps / self.timesteps.len();
        self.clip = config.clip_sample;
        self.alphas = self
            .timesteps
            .iter()
            .map(|&t| {
                let t = index(t).min(table.len() - 1);
                (table[t], t.checked_sub(ratio).map_or(last, |t| table[t]))
            })
            .collect();
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The timestep that the UNet is told at each step; whole numbers except under linspace
    /// spacing.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// σ of each step and of the end; empty for DDIM.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The standard deviation of the initial noise.
    pub fn init_noise_sigma(&self) -> f32 {
        self.init_noise_sigma
    }

    /// What the sample is divided by before the UNet sees it at step `i`.
    pub fn input_divisor(&self, i: usize) -> f32 {
        match self.kind {
            SamplerKind::Euler | SamplerKind::EulerA => {
                let sigma = self.sigmas[i];
                (sigma * sigma + 1.0).sqrt()
            }
            SamplerKind::Ddim | SamplerKind::Dpmpp2m => 1.0,
        }
    }

    /// Whether each step takes fresh noise.
    pub fn needs_noise(&self) -> bool {
        self.kind == SamplerKind::EulerA
    }

    /// Moves `sample` over step `i`, given what the UNet said (`output`, guided).
    ///
    /// `noise` holds standard normals where [`Self::needs_noise`], else it may be empty.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        noise: &[f32],
        history: &mut History,
    ) {
        assert_eq!(output.len(), sample.len());
        match self.kind {
            SamplerKind::Euler => self.euler(i, self.sigmas[i + 1], output, sample),
            SamplerKind::EulerA => self.euler_a(i, output, sample, noise),
            SamplerKind::Ddim => self.ddim(i, output, sample),
            SamplerKind::Dpmpp2m => self.dpmpp_2m(i, output, sample, history),
        }
    }

    fn euler(&self, i: usize, target: f32, output: &[f32], sample: &mut [f32]) {
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

    fn euler_a(&self, i: usize, output: &[f32], sample: &mut [f32], noise: &[f32]) {
        assert_eq!(noise.len(), sample.len());
        let (from, to) = (self.sigmas[i], self.sigmas[i + 1]);
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).sqrt();
        self.euler(i, down, output, sample);
        for (x, &n) in sample.iter_mut().zip(noise) {
            *x += n * up;
        }
    }

    fn ddim(&self, i: usize, output: &[f32], sample: &mut [f32]) {
        let (alpha, next) = self.alphas[i];
        let (root_alpha, root_beta) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (root_next, direction) = (next.sqrt(), (1.0 - next).sqrt());
        for (x, &out) in sample.iter_mut().zip(output) {
            let (mut x0, noise) = match self.prediction {
                Prediction::Epsilon => ((*x - root_beta * out) / root_alpha, out),
                Prediction::VPrediction => (
                    root_alpha * *x - root_beta * out,
                    root_alpha * out + root_beta * *x,
                ),
            };
            if let Some(range) = self.clip {
                x0 = x0.clamp(-range, range);
            }
            *x = root_next * x0 + direction * noise;
        }
    }

    fn dpmpp_2m(&self, i: usize, output: &[f32], sample: &mut [f32], history: &mut History) {
        let (alpha_s, sigma_s) = alpha_sigma(self.sigmas[i]);
        let (alpha_t, sigma_t) = alpha_sigma(self.sigmas[i + 1]);
        let x0: Vec<f32> = sample
            .iter()
            .zip(output)
            .map(|(&x, &out)| match self.prediction {
                Prediction::Epsilon => (x - sigma_s * out) / alpha_s,
                Prediction::VPrediction => alpha_s * x - sigma_s * out,
            })
            .collect();
        let lambda = |(alpha, sigma): (f32, f32)| alpha.ln() - sigma.ln();
        let h = lambda((alpha_t, sigma_t)) - lambda((alpha_s, sigma_s));
        let keep = sigma_t / sigma_s;
        let pull = alpha_t * ((-h).exp() - 1.0);
        let last = i + 1 == self.steps();
        match history.x0.as_ref().filter(|_| !last) {
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
        history.x0 = Some(x0);
    }
}

/// α and σ of the variance-preserving process at σ/α = `sigma`.
fn alpha_sigma(sigma: f32) -> (f32, f32) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

#[expect(clippy::cast_precision_loss, reason = "step numbers are small")]
fn timesteps(kind: SamplerKind, config: &SchedulerConfig, steps: usize) -> Vec<f64> {
    let default = match kind {
        SamplerKind::Ddim => Spacing::Leading,
        _ => Spacing::Linspace,
    };
    let n = config.train_timesteps;
    let dpm = kind == SamplerKind::Dpmpp2m;
    let whole = matches!(kind, SamplerKind::Ddim | SamplerKind::Dpmpp2m);
    // DPM-Solver divides into one part more and leaves the clean end out.
    let points = steps + usize::from(dpm);
    match config.spacing.unwrap_or(default) {
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
                .map(|t| {
                    if whole {
                        t.round_ties_even()
                    } else {
                        f64::from(to_f32(t))
                    }
                })
                .collect()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "timesteps are small and not negative"
)]
fn index(t: f64) -> usize {
    t.max(0.0) as usize
}

/// `numpy.interp` of a table at its indices: clamped at both ends.
fn interpolate(table: &[f32], t: f64) -> f32 {
    let low = index(t).min(table.len() - 1);
    let high = (low + 1).min(table.len() - 1);
    let (a, b) = (f64::from(table[low]), f64::from(table[high]));
    to_f32(a + (b - a) * (t - t.floor()))
}
