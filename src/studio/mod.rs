//! Pictures drawn and looked at while training goes on: to validate the LoRA as it stands, or to train on.
//!
//! **Validation.** Every so many steps, before the first and after the last, the LoRA draws some pictures of
//! each validation caption; the classifier chain looks at them, and the discrepancy of each axis goes
//! into `validation.jsonl` and TensorBoard. A loss says how far preferences are learnt, not whether the
//! population is right: that only pictures show. With a target the run ends when it is met.
//!
//! **Rounds.** A run of `--online` trains on what its LoRA draws ([`crate::align::online`]).
//!
//! Nothing is written but numbers: pictures live as long as it takes to look at them, and their latents as long as
//! a round. They are drawn as
//! `pa-datagen` draws (the same painters), with plain guidance and the data set's sampler, steps and scale
//! unless the user says otherwise, and scored as `pa-score` scores (the same evidence). Their noise is addressed by
//! the run's seed, the caption and numbers that no data set uses. So every validation of a run sees
//! the same noise, whether it was broken or not, and differences between steps are the LoRA's; every round sees noise
//! of its own.
//!
//! The UNet, the VAE and the chain are loaded once; the text encoders only while captions are encoded.

mod error;
mod open;
mod paint;
mod record;
pub mod request;
mod rounds;
mod validate;

pub use error::{Error, Result};
pub use open::Asked;
pub use request::Request;
pub use rounds::Rounds;
