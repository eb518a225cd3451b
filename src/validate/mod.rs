//! Validation: drawing and scoring pictures while training goes on.
//!
//! Every so many steps, before the first and after the last, the LoRA as it is draws some pictures of
//! each validation caption; the classifier chain looks at them, and the discrepancy of each axis goes
//! into `validation.jsonl` and TensorBoard. A loss says how far preferences are learnt, not whether the
//! population is right: that only pictures show. With a target the run ends when it is met.
//!
//! Nothing is written but numbers: pictures live as long as it takes to look at them. They are drawn as
//! `pa-datagen` draws (the same painters), with plain guidance and the data set's sampler, steps and scale
//! unless the user says otherwise, and scored as `pa-score` scores (the same evidence). Their noise is addressed by
//! the run's seed, the caption and numbers that no data set uses, so every validation of a run sees
//! the same noise, whether it was broken or not, and differences between steps are the LoRA's.
//!
//! The UNet, the VAE and the chain are loaded once; the text encoders only while captions are encoded.

mod draw;
mod error;
mod open;
pub mod request;

pub use error::{Error, Result};
pub use request::Request;
