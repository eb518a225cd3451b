//! What a population of drawn pictures shows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::align::validation::{Axis, Record};
use crate::datagen::Plan;
use crate::judge::chain::Verdict;
use crate::score::assess::{Evidence, Qualities};
use crate::score::bootstrap::Estimate;
use crate::score::choice::Metrics;
use crate::score::gallery;
use crate::score::look::{Look, Looks};
use crate::score::population::{Population, Prompt, Shot, Slot};
use crate::score::scores::{AxisScore, Sided};

/// What these pictures of the plan show, drawn after `step` updates, as `pa-score` scores them.
pub(super) fn record(
    step: u32,
    plan: &Plan,
    pictures: &[usize],
    metrics: &Metrics,
    verdicts: Vec<Verdict>,
) -> Record {
    let look = |verdict| Look {
        sha256: None,
        problem: None,
        verdict,
        embeddings: BTreeMap::new(),
    };
    let looks = Looks {
        slots: vec![None; verdicts.len()],
        shots: verdicts.into_iter().map(look).collect(),
    };
    let population = population(plan, pictures);
    let evidence = Evidence {
        population: &population,
        looks: &looks,
        qualities: &Qualities::default(),
        metrics,
        replicates: 0,
        seed: 0,
    };
    let axes: Vec<Axis> = evidence.axes().iter().map(axis).collect();
    let found: Vec<f64> = axes.iter().filter_map(|axis| axis.discrepancy).collect();
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let counts = evidence.counts(&population.prompts).scored;
    let counts = counts.unwrap_or_default();
    Record {
        step,
        discrepancy: (!found.is_empty()).then_some(mean),
        axes,
        pictures: counts.files,
        kept: counts.kept,
        dropped: counts.dropped,
    }
}

fn axis(score: &AxisScore) -> Axis {
    let value = |sided: &Sided<Estimate>| sided.scored.map(|estimate| estimate.value);
    let number = score.numbers.headline();
    let shares = score.shares.scored.iter().flatten();
    Axis {
        axis: score.axis.clone(),
        discrepancy: number.and_then(|n| value(&n.hard)),
        soft_discrepancy: number.and_then(|n| value(&n.soft)),
        floor: number.and_then(|n| n.floor_of(0)),
        shares: score.values.iter().cloned().zip(shares.copied()).collect(),
    }
}

/// Pictures of the plan as a population to score, one slot a picture.
fn population(plan: &Plan, pictures: &[usize]) -> Population {
    let mut population = Population::default();
    for (slot, &index) in pictures.iter().enumerate() {
        let picture = plan.picture(index);
        if population.prompts.last().map(|p| p.text.as_str()) != Some(picture.caption) {
            population.prompts.push(Prompt {
                text: picture.caption.to_owned(),
                kind: gallery::Kind::Neutral,
                told: true,
                axes: picture.axes.clone(),
                neutral: None,
                slots: Vec::new(),
            });
        }
        let prompt = population.prompts.len() - 1;
        population.prompts[prompt].slots.push(slot);
        population.slots.push(Slot {
            prompt,
            shots: [Some(slot), None],
        });
        population.shots.push(Shot {
            side: 0,
            folder: 0,
            name: String::new(),
            path: PathBuf::new(),
            slot,
            key: String::new(),
        });
    }
    population
}
