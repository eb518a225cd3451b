//! How alike the two sides' pictures of one seed are, in CLIP's space.

use super::metric::{Asked, Better, Metric, Need, Pairs, Shape, Unit};
use crate::judge::clip::Tower;

/// The metric; it comes with the difference of pixels, where there is a CLIP.
pub static METRIC: Metric = Metric {
    key: "clip_cosine",
    asked: Asked::Name("similarity"),
    title: "Likeness to CLIP",
    about: "cosine of CLIP's embeddings of two pictures of one seed",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 3,
    needs: &[Need::Against, Need::Pictures(Tower::Bundle)],
    method: None,
    shape: Shape::Pairs(Pairs {
        of: |likeness| likeness.embeddings,
        things: "the cosine of their CLIP embeddings is {}",
        each: None,
    }),
};
