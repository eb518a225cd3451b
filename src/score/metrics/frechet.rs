//! Distance of the whole population to the whole bank of reference pictures.

use super::metric::{Asked, Better, Metric, Need, Shape, Unit};
use crate::judge::clip::Tower;
use crate::score::reference::Bank;

/// The metric; it comes with nearness to the references.
pub static METRIC: Metric = Metric {
    key: "frechet",
    asked: Asked::Name("reference"),
    title: "Fréchet distance to reference pictures",
    about: "Fréchet distance of CLIP's embeddings to those of the reference pictures",
    unit: Unit::Number,
    better: Better::Lower,
    decimals: 3,
    needs: &[Need::Pictures(Tower::Bundle), Need::Bank],
    method: None,
    shape: Shape::Embeddings(Bank::frechet),
};
