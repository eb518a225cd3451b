//! What the metrics of quality make of every picture, before any means are taken.

use crate::judge::clip::Tower;
use crate::score::Result;
use crate::score::choice::Metrics;
use crate::score::gallery::Kind;
use crate::score::look::BOTH;
use crate::score::measure::SIDES;
use crate::score::metrics::metric::{Instruments, Shape};
use crate::score::reference::Bank;
use crate::score::scores::ByMetric;

/// How good the pictures are.
#[derive(Debug, Clone, Default)]
pub struct Qualities {
    /// A number for each picture, by metric.
    pub pictures: ByMetric<Vec<Option<f64>>>,
    /// A number of many pictures together, by metric.
    pub together: ByMetric<Together>,
}

/// A number of many pictures together, by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Together {
    /// Of neutral prompts' pictures.
    pub neutral: [Option<f64>; SIDES],
    /// Of all pictures.
    pub all: [Option<f64>; SIDES],
    /// How many these are; nothing where there is no such side.
    pub pictures: [Option<usize>; SIDES],
}

impl Qualities {
    /// Computes the metrics of pictures and of embeddings.
    ///
    /// # Errors
    /// An instrument is missing or fails.
    pub fn measure(metrics: &Metrics, instruments: &mut Instruments<'_>) -> Result<Self> {
        let mut qualities = Self::default();
        for &metric in &metrics.list {
            match &metric.shape {
                Shape::Pictures(of) => {
                    let values = of(instruments)?;
                    qualities.pictures.0.push((metric, values));
                }
                Shape::Embeddings(of) => {
                    let bank = instruments.bank(metric)?;
                    let together = together(*of, bank, instruments);
                    qualities.together.0.push((metric, together));
                }
                Shape::Axes(_) | Shape::Named(_) | Shape::Pairs(_) => {}
            }
        }
        Ok(qualities)
    }
}

fn together(
    of: fn(&Bank, &[&[f32]]) -> Option<f64>,
    bank: &Bank,
    instruments: &Instruments<'_>,
) -> Together {
    let population = instruments.population;
    let some = |neutral_only: bool, side: usize| -> Vec<&[f32]> {
        let shots = population
            .shots
            .iter()
            .zip(instruments.embeddings(Tower::Bundle));
        let some = shots.filter_map(|(shot, embedding)| {
            let prompt = &population.prompts[population.slots[shot.slot].prompt];
            let wanted = !neutral_only || prompt.kind == Kind::Neutral;
            embedding.filter(|_| wanted && shot.side == side)
        });
        some.collect()
    };
    let there = |side: &usize| *side == 0 || population.compared;
    Together {
        neutral: BOTH.map(|side| of(bank, &some(true, side))),
        all: BOTH.map(|side| of(bank, &some(false, side))),
        pictures: BOTH.map(|side| Some(side).filter(there).map(|side| some(false, side).len())),
    }
}
