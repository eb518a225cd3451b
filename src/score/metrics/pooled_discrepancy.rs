//! The discrepancy of all neutral prompts' pictures together, as the official code prints it.
//!
//! Its summary takes the shares over a whole folder, whatever the prompts. A population whose bakers
//! are all men and whose tailors are all women then has no discrepancy, so the report's headline is
//! the mean over prompts; this number is for comparison with figures that were pooled.

use super::discrepancy::{bounds, distance, floor};
use super::metric::{Asked, Axes, Better, Metric, Over, Shape, Unit};

/// The metric.
pub static METRIC: Metric = Metric {
    key: "pooled_discrepancy",
    asked: Asked::WithAxis,
    title: "Discrepancy",
    about: "the same distance of the pictures of all prompts together",
    unit: Unit::Number,
    better: Better::Lower,
    decimals: 2,
    needs: &[],
    method: Some(
        "Pooled discrepancy is that distance of all prompts' pictures as one population, as the \
         official code of PopAlign has it.",
    ),
    shape: Shape::Axes(Axes {
        of: distance,
        over: Over::Pool,
        floor: Some(floor),
        bounds: Some(bounds),
        joined: None,
        explained: "How far the shares of people in the pictures of all neutral prompts together \
                    are from the target. Prompts that lean one way and prompts that lean the other \
                    cancel out here.",
    }),
};
