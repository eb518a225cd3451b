//! Measuring a population of pictures: who is in them, how far that is from the target, and
//! whether the pictures got worse.
//!
//! [`gallery`] finds the pictures, [`look`] looks at each once with a [`chain`] of classifiers and
//! [`clip`], and [`assess`] makes [`scores`] of what was seen: [`discrepancy`], recall and quality,
//! each a [`measure`] with an interval from the [`bootstrap`]. [`report`] shows them to people,
//! [`human`] asks people instead of classifiers.

pub mod assess;
pub mod bootstrap;
pub mod discrepancy;
mod error;
pub mod gallery;
pub mod human;
pub mod linalg;
pub mod look;
pub mod measure;
pub mod metrics;
pub mod population;
pub mod reference;
pub mod report;
mod run;
pub mod scores;
pub mod training;

pub use error::{Error, Result};
pub use run::{Event, Request, Scored, run};
