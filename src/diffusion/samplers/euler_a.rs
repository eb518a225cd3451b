//! Euler with fresh noise each step, as `scheduling_euler_ancestral_discrete.py`: a step goes below
//! the next σ, and noise brings the sample back up to it.

use std::sync::Arc;

use super::euler::Euler;
use super::sampler::{History, Sampler, SamplerKind};

/// Its entry.
pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler_a",
    help: "Euler with fresh noise each step (`EulerAncestralDiscreteScheduler`)",
    set_up: |config, steps| Ok(Arc::new(EulerA(Euler::plain(config, steps)?))),
};

/// Euler on the same grid, with noise.
#[derive(Debug)]
struct EulerA(Euler);

impl Sampler for EulerA {
    fn timesteps(&self) -> &[f64] {
        self.0.timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.0.sigmas()
    }

    fn init_noise_sigma(&self) -> f32 {
        self.0.init_noise_sigma()
    }

    fn input_divisor(&self, i: usize) -> f32 {
        self.0.input_divisor(i)
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
        assert_eq!(noise.len(), sample.len());
        let (from, to) = (self.sigmas()[i], self.sigmas()[i + 1]);
        let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - up * up).sqrt();
        self.0.step_to(down, i, output, sample);
        for (x, &n) in sample.iter_mut().zip(noise) {
            *x += n * up;
        }
    }
}
