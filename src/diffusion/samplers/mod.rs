//! Samplers: from noise to a latent, one UNet call at a time.
//!
//! Arithmetic, its order and its precision (float32 scalars and all) follow diffusers
//! (`scheduling_*.py`), so that the same initial latents give the same picture there. Every
//! operation is element by element: a batch is only a longer slice, and no sample sees its
//! neighbours.
//!
//! A sampler is one file: its entry, its setting up from the model's schedule, its formula. A new
//! one stands in [`SAMPLERS`], where the option's values, its help and its construction come from,
//! and in `tests/datagen_samplers.rs`.

mod ddim;
mod dpmpp_2m;
mod euler;
mod euler_a;
mod grid;
mod lcm;
mod sampler;
mod spread;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};

pub use sampler::{History, Sampler, SamplerKind};

/// Every sampler, in the order of the help; the first is the default.
pub static SAMPLERS: [SamplerKind; 6] = [
    euler::KIND,
    euler_a::KIND,
    ddim::KIND,
    dpmpp_2m::KIND,
    dpmpp_2m::KARRAS,
    lcm::KIND,
];

impl Default for SamplerKind {
    fn default() -> Self {
        SAMPLERS[0]
    }
}

impl ValueEnum for SamplerKind {
    fn value_variants<'a>() -> &'a [Self] {
        &SAMPLERS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.help))
    }
}

/// As its name.
impl Serialize for SamplerKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}
