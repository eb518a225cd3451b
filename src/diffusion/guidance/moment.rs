//! Where a drawing is.

/// Where a drawing is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Steps done.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// The timestep, as a share of the training's: 1 is noise.
    pub time: f64,
    /// The same of the first step.
    pub first: f64,
}
