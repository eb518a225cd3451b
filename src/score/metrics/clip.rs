//! Agreement of picture and caption, in CLIP's space.

use super::metric::{Asked, Better, Instruments, Metric, Need, Shape, Unit};
use crate::judge::clip::{CONVENTION, cosine};
use crate::score::Result;

/// The metric.
pub static METRIC: Metric = Metric {
    key: "clip",
    asked: Asked::Name("clip"),
    title: "Agreement with captions",
    about: "100 × cosine of CLIP's embeddings of picture and caption",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[Need::Clip],
    method: None,
    shape: Shape::Pictures(agreement),
};

fn agreement(instruments: &mut Instruments<'_>) -> Result<Vec<Option<f64>>> {
    let population = instruments.population;
    let texts: Vec<&str> = population.prompts.iter().map(|p| p.text.as_str()).collect();
    let captions = instruments.clip(&METRIC)?.captions(&texts)?;
    let pairs = instruments.embeddings().zip(&population.shots);
    let agreement = pairs.map(|(embedding, shot)| {
        let caption = &captions[population.slots[shot.slot].prompt];
        Some(CONVENTION * cosine(embedding?, caption))
    });
    Ok(agreement.collect())
}
