//! How captions steer a drawing: classifier-free guidance and the training-free ways to more variety
//! that the paper compares with.
//!
//! - **plain**: the UNet runs once on a doubled batch, negative captions first; the guided
//!   prediction is `negative + scale · (positive − negative)` (Ho and Salimans, arXiv 2207.12598,
//!   as diffusers writes it). At a scale of 1 or less there is nothing to guide and the batch
//!   isn't doubled.
//! - **cads**: the captions' embeddings drown in noise at first and come out of it as the drawing
//!   goes on ([`Annealing`]): `√γ·y + s·√(1−γ)·n`, brought back to y's mean and standard deviation to
//!   a share ψ.
//! - **dynamic-cfg**: the scale is multiplied by the same γ.
//! - **fair-diffusion**: the guided prediction is moved towards some captions and away from others
//!   ([`Edits`]), each a further row of the batch.
//!
//! A guided prediction may be rescaled towards the positive one's standard deviation (Lin et al.,
//! arXiv 2305.08891, section 3.4), and only an interval of the steps may be guided at all.

mod annealing;
mod edits;
mod guided;
mod interval;
mod moment;
mod numbers;

pub use annealing::{Annealing, Compat};
pub use edits::Edits;
pub use guided::{Guidance, Layout, Method};
pub use interval::Interval;
pub use moment::Moment;
