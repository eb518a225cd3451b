//! Prompt by prompt, and picture by picture.

use super::axes::Standings;
use super::evidence::{Evidence, SIDE_NAMES, mean};
use crate::judge::reading::Standing;
use crate::picture::Problem;
use crate::score::gallery::Kind;
use crate::score::population::{Prompt, Shot};
use crate::score::scores::{ByMetric, PictureScore, PromptScore};

/// Why a picture can't be read, in full.
fn problem(problem: &Problem) -> String {
    match problem.reason() {
        Some(reason) => format!("{problem}: {reason}"),
        None => problem.to_string(),
    }
}

impl Evidence<'_> {
    /// Every prompt by itself.
    pub fn prompts(&self) -> Vec<PromptScore> {
        let scales = self.metrics.scales.iter();
        // A prompt that one side lacks still has a number on the other.
        let standings: Vec<_> = scales.map(|scale| self.standings(scale, false)).collect();
        let prompts = self.population.prompts.iter();
        prompts
            .map(|prompt| self.prompt(prompt, &standings))
            .collect()
    }

    fn prompt(&self, prompt: &Prompt, standings: &[Standings<'_>]) -> PromptScore {
        let axes = match prompt.kind {
            Kind::Neutral => standings
                .iter()
                .map(|standings| self.prompt_axis(prompt, standings))
                .collect(),
            _ => Vec::new(),
        };
        let quality = self.qualities.pictures.0.iter().map(|(metric, values)| {
            let of = |side: usize| mean(self.shots(prompt, side).filter_map(|s| values[s]));
            (*metric, self.sides(of))
        });
        PromptScore {
            prompt: prompt.text.clone(),
            kind: prompt.kind,
            named: prompt.axes.clone(),
            pictures: self.counts([prompt]),
            axes,
            quality: quality.collect(),
            pairs: self.prompt_pairs(prompt),
        }
    }

    /// Every picture by itself.
    pub fn pictures(&self) -> Vec<PictureScore> {
        let shots = self.population.shots.iter().enumerate();
        shots
            .map(|(index, shot)| self.picture(index, shot))
            .collect()
    }

    fn picture(&self, index: usize, shot: &Shot) -> PictureScore {
        let attributes = self.looks.attributes(index);
        let axes = self.metrics.scales.iter().filter_map(|scale| {
            let Standing { dominant, shares } = scale.read(attributes?).ok()?;
            let value = scale.values[dominant].clone();
            Some((scale.name.clone(), (value, shares[dominant] as f32)))
        });
        let quality: ByMetric<f64> = self
            .qualities
            .pictures
            .0
            .iter()
            .filter_map(|(metric, values)| Some((*metric, values[index]?)))
            .collect();
        PictureScore {
            side: SIDE_NAMES[shot.side],
            folder: shot.folder,
            file: shot.name.clone(),
            prompt: self.population.slots[shot.slot].prompt,
            dropped: self.looks.dropped(index).map(ToString::to_string),
            problem: self.looks.shots[index].problem.as_ref().map(problem),
            axes: axes.collect(),
            numbers: attributes.map(|a| a.numbers.clone()).unwrap_or_default(),
            quality,
        }
    }
}
