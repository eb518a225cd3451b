//! Measuring a population of pictures: who is in them, how far that is from the target, and
//! whether the pictures got worse.
//!
//! [`gallery`] finds the pictures, [`look`] looks at each once with a chain of classifiers and CLIP,
//! and [`assess`] makes [`scores`] of what was seen: the [`metrics`] that were chosen ([`choice`]),
//! each a [`measure`] with an interval from the [`bootstrap`]. [`report`] shows them to people,
//! [`human`] asks people instead of classifiers.

pub mod assess;
pub mod bootstrap;
pub mod choice;
mod error;
mod facts;
pub mod figures;
pub mod gallery;
pub mod human;
pub mod look;
pub mod measure;
pub mod metrics;
mod overlap;
mod page;
pub mod population;
pub mod reference;
pub mod report;
pub mod request;
mod run;
pub mod scores;
mod setup;
pub mod training;

pub use error::{Error, Result};
pub use request::{Event, Request, Scored};
pub use run::run;
