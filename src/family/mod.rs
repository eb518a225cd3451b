//! Families of models: what their members have in common, said once, and what one file of theirs
//! holds.
//!
//! Which family a model is of is read off what it says of itself ([`Family::of_unet`]); what
//! follows from that stands in the family's [`Descriptor`], and the names that graphs give their
//! inputs and outputs in [`ports`]. Sizes are not among it: those are the model's own, in its
//! configurations.

pub mod checkpoint;
mod descriptor;
mod error;
pub mod ports;
mod prediction;
pub mod schedule;

pub use descriptor::{
    Descriptor, Family, HiddenState, REFINER_TIME_IDS, SizeConditions, Slot, TEXT_TIME, TIME_IDS,
    TextEncoder,
};
pub use error::{Error, Result};
pub use prediction::Prediction;
