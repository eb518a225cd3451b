//! What a sampler is.

use std::fmt;
use std::sync::Arc;

use crate::diffusion::schedule::{Error, SchedulerConfig};

/// A sampler set up for a number of steps.
pub trait Sampler: fmt::Debug + Send + Sync {
    /// The timestep that the UNet is told at each step; whole numbers except under linspace
    /// spacing.
    fn timesteps(&self) -> &[f64];

    /// How many steps there are.
    fn steps(&self) -> usize {
        self.timesteps().len()
    }

    /// σ of each step and of the end; empty for a sampler that has none.
    fn sigmas(&self) -> &[f32] {
        &[]
    }

    /// The standard deviation of the initial noise.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// What the sample is divided by before the UNet sees it at step `i`.
    fn input_divisor(&self, _i: usize) -> f32 {
        1.0
    }

    /// Whether each step takes fresh noise.
    fn needs_noise(&self) -> bool {
        false
    }

    /// Moves `sample` over step `i`, given what the UNet said (`output`, guided).
    ///
    /// `noise` holds standard normals where [`Self::needs_noise`], else it may be empty. `history`
    /// is the drawing's own, new at its first step.
    ///
    /// # Panics
    /// If the lengths differ.
    fn step(
        &self,
        i: usize,
        output: &[f32],
        sample: &mut [f32],
        noise: &[f32],
        history: &mut History,
    );
}

/// What a multistep sampler remembers of a drawing's steps before.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// As many numbers as the sample has, for each thing remembered; the sampler knows what.
    pub(super) kept: Vec<Vec<f32>>,
}

/// Which sampler: its entry in the list of them.
#[derive(Clone, Copy)]
pub struct SamplerKind {
    /// Its name on the command line and in a data set's manifest.
    pub(super) name: &'static str,
    /// What the help says of it.
    pub(super) help: &'static str,
    /// Sets it up.
    pub(super) set_up: SetUp,
}

/// Makes a sampler from the model's schedule and the number of steps.
pub(super) type SetUp = fn(&SchedulerConfig, usize) -> Result<Arc<dyn Sampler>, Error>;

impl SamplerKind {
    /// Its name on the command line and in a data set's manifest.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Why the model's configuration asks for what this sampler isn't.
    pub(super) fn refuses(
        self,
        key: &'static str,
        value: impl fmt::Display,
        supported: &'static str,
    ) -> Error {
        Error::Sampler {
            sampler: self.name,
            key,
            value: value.to_string(),
            supported,
        }
    }

    /// Of pure noise the noise says nothing: the predicted picture would be divided by zero.
    pub(super) fn refuses_pure_noise(self) -> Error {
        let supported = "false, or prediction_type v_prediction";
        self.refuses("rescale_betas_zero_snr", true, supported)
    }

    /// Sets up `steps` steps of the model's schedule.
    ///
    /// # Errors
    /// [`Error::Steps`] for none, or more than the sampler can make of the schedule;
    /// [`Error::Sampler`] for a configuration that diffusers' class of this name would follow in what
    /// this one can't.
    pub fn set_up(self, config: &SchedulerConfig, steps: usize) -> Result<Arc<dyn Sampler>, Error> {
        (self.set_up)(config, steps)
    }
}

impl PartialEq for SamplerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for SamplerKind {}

impl fmt::Debug for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
