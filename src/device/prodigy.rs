//! Prodigy, which estimates its own step size: the host's part, and the twins of `kernels/prodigy.cu`.
//!
//! Mishchenko and Defazio 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", as the authors'
//! package `prodigyopt` computes it with what diffusers' DreamBooth scripts set: decoupled weight decay,
//! bias correction, and the learning rate left out of the estimate's denominator (`safeguard_warmup`), so
//! that a warm-up doesn't inflate it. β3 is √β2. The learning rate is a factor on what it finds: 1.

use rayon::prelude::*;

use super::adamw::{AdamW, Clip, power};
use super::cpu::{CHUNK, LANES, TASK, tree_sum};

/// The estimate that a run starts with: `d0`.
pub const START: f64 = 1e-6;

/// What is kept of each parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Prodigy<B> {
    /// First moments, of gradients times the estimate of their step.
    pub m: B,
    /// Second moments likewise.
    pub v: B,
    /// Gradients added up with growing weight.
    pub s: B,
    /// The parameters at the start.
    pub start: B,
    /// How far the start is thought to be from the end.
    pub estimate: Estimate,
}

/// The estimated step size, and what the next estimate is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The step size: `d`.
    pub d: f64,
    /// The largest estimate so far.
    pub most: f64,
    /// The numerator: how far the gradients have led.
    pub numerator: f64,
    /// Updates that were made.
    pub updates: u32,
}

/// Scalars of an update of the moments. In memory as `ProdigyMoments` of `kernels/prodigy.cu`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct ProdigyMoments {
    /// Decay of the first moments.
    pub beta1: f32,
    /// d (1 − β1).
    pub m_rate: f32,
    /// Decay of the second moments.
    pub beta2: f32,
    /// d² (1 − β2).
    pub v_rate: f32,
    /// Decay of the sum.
    pub beta3: f32,
    /// d² / d0.
    pub s_rate: f32,
}

/// Scalars of an update of the parameters. In memory as `ProdigyUpdate` of `kernels/prodigy.cu`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct ProdigyUpdate {
    /// 1 − weight decay × rate.
    pub keep: f32,
    /// Step size, corrected for the moments' bias.
    pub rate: f32,
    /// Added to the denominator.
    pub eps: f32,
}

impl Default for Estimate {
    fn default() -> Self {
        Self {
            d: START,
            most: START,
            numerator: 0.0,
            updates: 0,
        }
    }
}

impl Prodigy<Vec<f32>> {
    /// What a run starts with.
    pub fn new(start: &[f32]) -> Self {
        let zeros = || vec![0.0; start.len()];
        Self {
            m: zeros(),
            v: zeros(),
            s: zeros(),
            start: start.to_vec(),
            estimate: Estimate::default(),
        }
    }
}

impl<B> Prodigy<B> {
    /// All of them.
    pub fn buffers(&self) -> [&B; 4] {
        [&self.m, &self.v, &self.s, &self.start]
    }

    /// The same in other buffers.
    ///
    /// # Errors
    /// That of the copy.
    pub fn try_map<B2, E>(&self, copy: impl Fn(&B) -> Result<B2, E>) -> Result<Prodigy<B2>, E> {
        Ok(Prodigy {
            m: copy(&self.m)?,
            v: copy(&self.v)?,
            s: copy(&self.s)?,
            start: copy(&self.start)?,
            estimate: self.estimate,
        })
    }
}

impl Estimate {
    /// The step size with the moments' bias corrected.
    pub(super) fn rate(&self, hyper: &AdamW) -> f64 {
        let t = self.updates + 1;
        let (first, second) = (power(hyper.beta1, t), power(hyper.beta2, t));
        self.d * (1.0 - second).sqrt() / (1.0 - first)
    }

    /// Scalars of the next update of the moments.
    pub(super) fn moments(&self, hyper: &AdamW) -> ProdigyMoments {
        let d = self.d;
        ProdigyMoments {
            beta1: hyper.beta1 as f32,
            m_rate: (d * (1.0 - hyper.beta1)) as f32,
            beta2: hyper.beta2 as f32,
            v_rate: (d * d * (1.0 - hyper.beta2)) as f32,
            beta3: hyper.beta2.sqrt() as f32,
            s_rate: (d / START * d) as f32,
        }
    }

    /// Takes the sums of an update of the moments; whether there is anything to go by.
    pub(super) fn advance(&mut self, hyper: &AdamW, eta: f64, [along, size]: [f64; 2]) -> bool {
        if size == 0.0 {
            return false;
        }
        let gain = self.d / START * eta * along;
        self.numerator = self.numerator * hyper.beta2.sqrt() + gain;
        // The first estimate may only rise; later ones never fall.
        self.most = self.most.max(self.numerator / size);
        self.d = self.most;
        self.updates += 1;
        true
    }
}

/// Twin of `pa_prodigy_moments` and `pa_prodigy_sums`: the two sums.
pub fn moments(
    step: &ProdigyMoments,
    clip: Clip,
    grad: &[f32],
    p: &[f32],
    own: &mut Prodigy<Vec<f32>>,
) -> [f64; 2] {
    let chunks = (own.m.par_chunks_mut(CHUNK))
        .zip(own.v.par_chunks_mut(CHUNK))
        .zip(own.s.par_chunks_mut(CHUNK))
        .zip(own.start.par_chunks(CHUNK))
        .zip(p.par_chunks(CHUNK))
        .zip(grad.par_chunks(CHUNK));
    let partial: Vec<[f64; 2]> = chunks
        .map(|(((((m, v), s), start), p), grad)| {
            let (mut along, mut size) = ([0.0f64; LANES], [0.0f64; LANES]);
            for k in 0..grad.len() {
                let g = clip.factor * grad[k];
                m[k] = step.beta1 * m[k] + step.m_rate * g;
                v[k] = step.beta2 * v[k] + step.v_rate * g * g;
                s[k] = step.beta3 * s[k] + step.s_rate * g;
                along[k % LANES] += f64::from(g) * f64::from(start[k] - p[k]);
                size[k % LANES] += f64::from(s[k].abs());
            }
            [tree_sum(&mut along), tree_sum(&mut size)]
        })
        .collect();
    std::array::from_fn(|which| {
        let mut lanes = [0.0f64; LANES];
        for (k, sums) in partial.iter().enumerate() {
            lanes[k % LANES] += sums[which];
        }
        tree_sum(&mut lanes)
    })
}

/// Twin of `pa_prodigy_update`.
pub fn update(step: &ProdigyUpdate, p: &mut [f32], m: &[f32], v: &[f32]) {
    p.par_chunks_mut(TASK)
        .zip(m.par_chunks(TASK))
        .zip(v.par_chunks(TASK))
        .for_each(|((p, m), v)| {
            for k in 0..p.len() {
                p[k] = p[k] * step.keep - step.rate * m[k] / (v[k].sqrt() + step.eps);
            }
        });
}
