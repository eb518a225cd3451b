//! How far the two sides' pictures of one seed differ, pixel by pixel.

use super::metric::{Asked, Better, Each, Metric, Need, Pairs, Shape, Unit};

/// The metric.
pub static METRIC: Metric = Metric {
    key: "pixel_difference",
    asked: Asked::Name("similarity"),
    title: "Difference of pixels",
    about: "mean absolute difference of the pixels of two pictures of one seed, as a share of \
            their range",
    unit: Unit::Share,
    better: Better::Lower,
    decimals: 1,
    needs: &[Need::Against],
    method: None,
    shape: Shape::Pairs(Pairs {
        of: |likeness| likeness.pixels,
        things: "pixels differ by {} of their range on average",
        each: Some(Each {
            prompt: "pixels differ by {}",
            people: "In pictures of people for neutral prompts they differ by {}.",
        }),
    }),
};
