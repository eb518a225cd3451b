//! Recall of which every picture is part: one that was dropped shows nothing that its caption names.

use super::metric::{Asked, Better, Metric, Named, Shape, Unit};
use super::recall::shown;

/// The metric; it comes with recall.
pub static METRIC: Metric = Metric {
    key: "strict_recall",
    asked: Asked::Name("recall"),
    title: "Strict recall of named values",
    about: "share of all pictures that show the values their captions name: those that were dropped do not",
    unit: Unit::Share,
    better: Better::Higher,
    decimals: 1,
    needs: &[],
    method: None,
    shape: Shape::Named(Named {
        of: shown,
        dropped: Some(0.0),
        heading: "Captions that name who to draw, every picture counted",
        subject: "strict recall, to which dropped pictures are wrong,",
        explained: "The share of all pictures, of {captions}, that show what the caption names. \
                    Pictures in which the classifiers see nobody, or are not sure, and files that \
                    can't be read count as wrong.",
    }),
};
