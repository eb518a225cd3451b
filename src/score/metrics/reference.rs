//! Nearness of each picture to the reference pictures.

use super::metric::{Asked, Better, Instruments, Metric, Need, Shape, Unit};
use crate::judge::clip::Tower;
use crate::score::Result;

/// The metric.
pub static METRIC: Metric = Metric {
    key: "reference",
    asked: Asked::Name("reference"),
    title: "Nearness to reference pictures",
    about: "mean cosine to the 5 nearest reference pictures",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 3,
    needs: &[Need::Pictures(Tower::Bundle), Need::Bank],
    method: None,
    shape: Shape::Pictures(nearness),
};

fn nearness(instruments: &mut Instruments<'_>) -> Result<Vec<Option<f64>>> {
    let bank = instruments.bank(&METRIC)?;
    let nearness = |embedding: Option<&[f32]>| Some(bank.similarity(embedding?));
    Ok(instruments
        .embeddings(Tower::Bundle)
        .map(nearness)
        .collect())
}
