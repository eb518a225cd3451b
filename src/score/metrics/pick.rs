//! PickScore: which picture for a caption people picked.

use super::metric::{Asked, Better, Instruments, Metric, Need, Shape, Unit};
use crate::judge::clip::Tower;
use crate::score::Result;

/// The metric.
pub static METRIC: Metric = Metric {
    key: "pick",
    asked: Asked::Name("pick"),
    title: "PickScore",
    about: "exp(logit_scale) × cosine of PickScore's embeddings of picture and caption",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[Need::Clip(Tower::PickScore)],
    method: None,
    shape: Shape::Pictures(score),
};

fn score(instruments: &mut Instruments<'_>) -> Result<Vec<Option<f64>>> {
    let need = Need::Clip(Tower::PickScore);
    let scale = instruments.clip(&METRIC, Tower::PickScore)?.scale();
    let scale = scale.ok_or_else(|| METRIC.missing(need))?;
    let cosines = instruments.agreement(&METRIC, Tower::PickScore)?;
    let scores = cosines.into_iter().map(|cosine| Some(scale * cosine?));
    Ok(scores.collect())
}
