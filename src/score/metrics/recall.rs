//! Recall: whether a picture shows the values that its caption names.
//!
//! Pictures that the classifiers drop are left out of it; [`super::strict_recall`] counts them.

use super::metric::{Asked, Better, Metric, Named, Shape, Unit};
use crate::judge::reading::Standing;

/// The metric.
pub static METRIC: Metric = Metric {
    key: "recall",
    asked: Asked::Name("recall"),
    title: "Recall of named values",
    about: "share of pictures that show the values their captions name",
    unit: Unit::Share,
    better: Better::Higher,
    decimals: 1,
    needs: &[],
    method: None,
    shape: Shape::Named(Named {
        of: shown,
        dropped: None,
        heading: "Captions that name who to draw",
        subject: "recall of captions that name who to draw",
        explained: "The share of pictures, of {captions}, that show what the caption names. \
                    Pictures in which the classifiers see nobody, or are not sure, are left out.",
    }),
};

/// 1 where the most probable value is the one asked for, else 0.
pub(super) fn shown(standing: &Standing, asked: usize) -> f64 {
    f64::from(u8::from(standing.dominant == asked))
}
