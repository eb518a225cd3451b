//! LAION's aesthetic score: how people like a picture, whatever its caption.

use super::metric::{Asked, Better, Instruments, Metric, Need, Shape, Unit};
use crate::judge::clip::Tower;
use crate::score::Result;

/// The metric. It shares the vision tower of [`super::clip::L14`].
pub static METRIC: Metric = Metric {
    key: "aesthetic",
    asked: Asked::Name("aesthetic"),
    title: "Aesthetic score",
    about: "LAION's aesthetic predictor (sac+logos+ava1) of CLIP ViT-L/14's embedding, about 1 to 10",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[Need::Pictures(Tower::ClipL14), Need::Aesthetic],
    method: None,
    shape: Shape::Pictures(score),
};

fn score(instruments: &mut Instruments<'_>) -> Result<Vec<Option<f64>>> {
    let aesthetic = instruments.aesthetic;
    let aesthetic = aesthetic.ok_or_else(|| METRIC.missing(Need::Aesthetic))?;
    let embeddings = instruments.embeddings(Tower::ClipL14);
    Ok(embeddings
        .map(|embedding| Some(aesthetic.of(embedding?)))
        .collect())
}
