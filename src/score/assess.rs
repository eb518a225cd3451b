//! From what was seen to what it means: every number of `scores.json`.

use std::collections::BTreeMap;

use super::bootstrap::{Estimate, Population as Resampled};
use super::discrepancy::floor;
use super::gallery::Kind;
use super::look::{BOTH, Looks};
use super::measure::{Compared, Measure, Reading, SIDES};
use super::metrics::Metrics;
use super::population::{Population, Prompt};
use super::scores::{
    AxisScore, Counts, PromptAxis, PromptScore, Quality, Recall, Row, Share, Sided, Similarity,
};
use crate::judge::chain::Verdict;
use crate::judge::reading::Standing;
use crate::judge::scales::Scale;
use crate::prompts::caption_id;

/// Tags of the resampled populations.
const TAG_PROMPTS: u32 = 1;
const TAG_ONE_PROMPT: u32 = 2;

/// Agreement with captions and similarity to references, by picture.
#[derive(Debug, Clone, Default)]
pub struct Qualities {
    /// 100 × cosine of picture and caption.
    pub clip: Option<Vec<Option<f64>>>,
    /// Mean cosine to the nearest references.
    pub reference: Option<Vec<Option<f64>>>,
    /// Fréchet distance to the references, by side: of neutral prompts' pictures, of all.
    pub frechet: Option<[[Option<f64>; SIDES]; 2]>,
}

/// Everything that numbers are computed from.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The pictures and their places.
    pub population: &'a Population,
    /// What was seen of them.
    pub looks: &'a Looks,
    /// How good they are.
    pub qualities: &'a Qualities,
    /// What to compute.
    pub metrics: &'a Metrics,
    /// Resamples for an interval.
    pub replicates: u32,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Evidence<'_> {
    /// How many pictures of these prompts there are, and why some don't count.
    pub fn counts<'a>(&self, prompts: impl IntoIterator<Item = &'a Prompt>) -> Sided<Counts> {
        let prompts: Vec<&Prompt> = prompts.into_iter().collect();
        let side = |side: usize| {
            let mut counts = Counts::default();
            for shot in prompts.iter().flat_map(|p| self.shots(p, side)) {
                counts.files += 1;
                match &self.looks.shots[shot].verdict {
                    Verdict::Kept(_) => counts.kept += 1,
                    Verdict::Dropped(reason) => {
                        *counts.dropped.entry(reason.to_string()).or_default() += 1;
                    }
                }
            }
            counts
        };
        self.sides(|s| Some(side(s)))
    }

    /// The discrepancy of neutral prompts on every axis.
    pub fn axes(&self) -> Vec<AxisScore> {
        let scales = self.metrics.scales.iter();
        scales.map(|scale| self.axis(scale)).collect()
    }

    fn axis(&self, scale: &Scale) -> AxisScore {
        let [hard, soft] = self.readings(scale, self.population.compared);
        let neutral: Vec<&Prompt> = self.kind(Kind::Neutral).collect();
        let counting: Vec<&Prompt> = neutral
            .iter()
            .filter(|p| hard.counts(&Population::slot_numbers(p)))
            .copied()
            .collect();
        let population = self.resampled(neutral.iter().copied());
        let floors = |side: usize| {
            let sizes = counting
                .iter()
                .filter_map(|p| self.floor(scale, &hard, side, p));
            mean(sizes)
        };
        let slots: Vec<u32> = population.whole().concat();
        let shares = |side: usize| {
            let (shares, count) = hard.mean(side, &slots);
            (count > 0).then_some(shares)
        };
        AxisScore {
            axis: scale.name.clone(),
            values: scale.values.clone(),
            target: scale.target.clone(),
            prompts: counting.len(),
            prompts_left_out: neutral.len() - counting.len(),
            discrepancy: hard.estimate(&population, self.replicates).into(),
            soft_discrepancy: soft.estimate(&population, self.replicates).into(),
            floor: self.sides(floors),
            shares: self.sides(shares),
        }
    }

    /// An axis' measures: from most probable values, and from probabilities.
    fn readings(&self, scale: &Scale, paired: bool) -> [Measure; 2] {
        let new = || self.measure(Reading::Distance(scale.target.clone()), paired);
        let (mut hard, mut soft) = (new(), new());
        for (side, slot, shot) in self.places() {
            if let Some(standing) = self.standing(scale, shot) {
                let mut one_hot = vec![0.0; scale.values.len()];
                one_hot[standing.dominant] = 1.0;
                hard.set(side, slot, &one_hot);
                soft.set(side, slot, &standing.shares);
            }
        }
        [hard, soft]
    }

    fn floor(&self, scale: &Scale, measure: &Measure, side: usize, prompt: &Prompt) -> Option<f64> {
        let (_, count) = measure.mean(side, &Population::slot_numbers(prompt));
        floor(&scale.target, u32::try_from(count).ok()?, self.seed)
    }

    /// Whether captions that name values are obeyed; nothing without such captions.
    pub fn recall(&self) -> Option<Recall> {
        if !self.metrics.recall {
            return None;
        }
        let prompts: Vec<&Prompt> = self.kind(Kind::Specific).collect();
        let named = |scale: &&Scale| prompts.iter().any(|p| p.axes.contains_key(&scale.name));
        let scales: Vec<&Scale> = self.metrics.scales.iter().filter(named).collect();
        if scales.is_empty() {
            return None;
        }
        let population = self.resampled(prompts.iter().copied());
        let mut axes = BTreeMap::new();
        let mut values = BTreeMap::new();
        for &scale in &scales {
            let hits = |prompt: &Prompt, shot: usize| self.obeys(scale, prompt, shot);
            axes.insert(scale.name.clone(), self.hits(&population, hits));
            values.insert(scale.name.clone(), self.recall_by_value(scale, &prompts));
        }
        let all = |prompt: &Prompt, shot: usize| {
            let hits = scales.iter().filter_map(|s| self.obeys(s, prompt, shot));
            hits.reduce(|a, b| a && b)
        };
        Some(Recall {
            prompts: prompts.len(),
            all: self.hits(&population, all),
            axes,
            values,
        })
    }

    fn hits(
        &self,
        population: &Resampled,
        hit: impl Fn(&Prompt, usize) -> Option<bool>,
    ) -> Sided<Estimate> {
        let mut measure = self.measure(Reading::Mean, false);
        for (side, slot, shot) in self.places() {
            let prompt = &self.population.prompts[self.population.slots[slot].prompt];
            if let Some(hit) = hit(prompt, shot) {
                measure.set(side, slot, &[f64::from(u8::from(hit))]);
            }
        }
        measure.estimate(population, self.replicates).into()
    }

    /// Whether a picture shows the value that its caption names; nothing if it names none, or the
    /// picture doesn't count.
    fn obeys(&self, scale: &Scale, prompt: &Prompt, shot: usize) -> Option<bool> {
        let asked = scale.index(prompt.axes.get(&scale.name)?)?;
        let standing = self.standing(scale, shot)?;
        Some(standing.dominant == asked)
    }

    fn recall_by_value(
        &self,
        scale: &Scale,
        prompts: &[&Prompt],
    ) -> BTreeMap<String, Sided<Share>> {
        let of = |value: &String, side: usize| {
            let asked = prompts
                .iter()
                .filter(|p| p.axes.get(&scale.name) == Some(value));
            let shots = asked.flat_map(|p| self.shots(p, side).map(move |shot| (p, shot)));
            let hits: Vec<bool> = shots
                .filter_map(|(p, shot)| self.obeys(scale, p, shot))
                .collect();
            let right = hits.iter().filter(|hit| **hit).count();
            (!hits.is_empty()).then(|| Share {
                share: right as f64 / hits.len() as f64,
                pictures: hits.len(),
            })
        };
        let values = scale.values.iter();
        values
            .map(|value| (value.clone(), self.sides(|side| of(value, side))))
            .collect()
    }

    /// How good the pictures are.
    pub fn quality(&self) -> Vec<Quality> {
        let mut all = Vec::new();
        if let Some(values) = &self.qualities.clip {
            all.push(Quality {
                metric: "clip",
                about: "100 × cosine of CLIP's embeddings of picture and caption",
                higher_is_better: true,
                ..self.quality_of(values)
            });
        }
        if let Some(values) = &self.qualities.reference {
            all.push(Quality {
                metric: "reference",
                about: "mean cosine to the 5 nearest reference pictures",
                higher_is_better: true,
                ..self.quality_of(values)
            });
        }
        if let Some([neutral, every]) = self.qualities.frechet {
            all.push(Quality {
                metric: "frechet",
                about: "Fréchet distance of CLIP's embeddings to those of the reference pictures",
                higher_is_better: false,
                all: exact(every),
                kinds: BTreeMap::from([(Kind::Neutral.name(), exact(neutral))]),
            });
        }
        all
    }

    fn quality_of(&self, values: &[Option<f64>]) -> Quality {
        let mut measure = self.measure(Reading::Mean, false);
        for (side, slot, shot) in self.places() {
            if let Some(value) = values[shot] {
                measure.set(side, slot, &[value]);
            }
        }
        let estimate = |population: &Resampled| -> Sided<Estimate> {
            measure.estimate(population, self.replicates).into()
        };
        let kinds = self.kinds().into_iter().map(|kind| {
            let population = self.resampled(self.kind(kind));
            (kind.name(), estimate(&population))
        });
        Quality {
            metric: "",
            about: "",
            higher_is_better: true,
            all: estimate(&self.resampled(self.population.prompts.iter())),
            kinds: kinds.collect(),
        }
    }

    /// How alike the two sides' pictures of one slot are, by kind of prompt.
    pub fn similarity(&self) -> Option<BTreeMap<&'static str, Similarity>> {
        if !self.metrics.similarity {
            return None;
        }
        let (mut pixels, mut embeddings) = (
            self.measure(Reading::Mean, false),
            self.measure(Reading::Mean, false),
        );
        for (slot, likeness) in self.looks.slots.iter().enumerate() {
            if let Some(value) = likeness.and_then(|l| l.pixels) {
                pixels.set(0, slot, &[value]);
            }
            if let Some(value) = likeness.and_then(|l| l.embeddings) {
                embeddings.set(0, slot, &[value]);
            }
        }
        let kinds = self.kinds().into_iter().filter_map(|kind| {
            let slots = self.kind(kind).flat_map(|p| &p.slots);
            let pairs = slots.filter(|&&s| self.looks.slots[s].is_some()).count();
            let population = self.resampled(self.kind(kind));
            let first = |measure: &Measure| measure.estimate(&population, self.replicates).sides[0];
            (pairs > 0).then(|| {
                let similarity = Similarity {
                    pairs,
                    pixel_difference: first(&pixels),
                    clip_cosine: first(&embeddings),
                };
                (kind.name(), similarity)
            })
        });
        Some(kinds.collect())
    }

    /// Every prompt by itself.
    pub fn prompts(&self) -> Vec<PromptScore> {
        let readings: Vec<(&Scale, [Measure; 2])> = self
            .metrics
            .scales
            .iter()
            // A prompt that one side lacks still has a number on the other.
            .map(|scale| (scale, self.readings(scale, false)))
            .collect();
        let prompts = self.population.prompts.iter();
        prompts
            .map(|prompt| self.prompt(prompt, &readings))
            .collect()
    }

    fn prompt(&self, prompt: &Prompt, readings: &[(&Scale, [Measure; 2])]) -> PromptScore {
        let axes = match prompt.kind {
            Kind::Neutral => readings
                .iter()
                .map(|(scale, measures)| self.prompt_axis(prompt, scale, measures))
                .collect(),
            _ => Vec::new(),
        };
        let quality = |values: &Option<Vec<Option<f64>>>| {
            let values = values.as_ref()?;
            Some(self.sides(|side| mean(self.shots(prompt, side).filter_map(|s| values[s]))))
        };
        let pixels = prompt
            .slots
            .iter()
            .filter_map(|&slot| self.looks.slots[slot]?.pixels);
        PromptScore {
            prompt: prompt.text.clone(),
            kind: prompt.kind,
            named: prompt.axes.clone(),
            pictures: self.counts([prompt]),
            axes,
            clip: quality(&self.qualities.clip),
            reference: quality(&self.qualities.reference),
            pixel_difference: match self.metrics.similarity {
                true => mean(pixels),
                false => None,
            },
        }
    }

    fn prompt_axis(
        &self,
        prompt: &Prompt,
        scale: &Scale,
        [hard, soft]: &[Measure; 2],
    ) -> PromptAxis {
        // Addressed by the caption, so that a prompt's interval doesn't depend on the others.
        let mut population = self.resampled(std::iter::once(prompt));
        population.tag = TAG_ONE_PROMPT;
        population.seed = self.seed ^ u64::from(caption_id(&prompt.text));
        let slots = Population::slot_numbers(prompt);
        let estimate = |measure: &Measure| -> Sided<Estimate> {
            measure.estimate(&population, self.replicates).into()
        };
        let shares = |measure: &Measure, side: usize| {
            let (shares, count) = measure.mean(side, &slots);
            (count > 0).then_some(shares)
        };
        PromptAxis {
            axis: scale.name.clone(),
            shares: self.sides(|side| shares(hard, side)),
            soft_shares: self.sides(|side| shares(soft, side)),
            discrepancy: estimate(hard),
            soft_discrepancy: estimate(soft),
            floor: self.sides(|side| self.floor(scale, hard, side, prompt)),
        }
    }

    /// Every picture by itself.
    pub fn rows(&self) -> Vec<Row> {
        let shots = self.population.shots.iter().enumerate();
        shots
            .map(|(index, shot)| {
                let attributes = self.looks.attributes(index);
                let axes = self.metrics.scales.iter().filter_map(|scale| {
                    let Standing { dominant, shares } = scale.read(attributes?).ok()?;
                    let value = scale.values[dominant].clone();
                    Some((scale.name.clone(), (value, shares[dominant] as f32)))
                });
                let quality = |values: &Option<Vec<Option<f64>>>| values.as_ref()?[index];
                Row {
                    side: SIDE_NAMES[shot.side],
                    folder: shot.folder,
                    file: shot.name.clone(),
                    prompt: self.population.slots[shot.slot].prompt,
                    dropped: self.looks.dropped(index).map(ToString::to_string),
                    axes: axes.collect(),
                    numbers: attributes.map(|a| a.numbers.clone()).unwrap_or_default(),
                    clip: quality(&self.qualities.clip),
                    reference: quality(&self.qualities.reference),
                }
            })
            .collect()
    }

    /// The kinds of prompts there are.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        kinds.retain(|&kind| self.kind(kind).next().is_some());
        kinds
    }

    /// The prompts of a kind.
    pub fn kind(&self, kind: Kind) -> impl Iterator<Item = &Prompt> + Clone {
        let prompts = self.population.prompts.iter();
        prompts.filter(move |prompt| prompt.kind == kind)
    }

    fn standing(&self, scale: &Scale, shot: usize) -> Option<Standing> {
        scale.read(self.looks.attributes(shot)?).ok()
    }

    fn measure(&self, reading: Reading, paired: bool) -> Measure {
        Measure::new(reading, self.population.slots.len(), paired)
    }

    fn resampled<'a>(&self, prompts: impl Iterator<Item = &'a Prompt>) -> Resampled {
        self.population.resampled(prompts, TAG_PROMPTS, self.seed)
    }

    /// Side, slot and index of every picture.
    fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let shots = self.population.shots.iter().enumerate();
        shots.map(|(index, shot)| (shot.side, shot.slot, index))
    }

    fn shots(&self, prompt: &Prompt, side: usize) -> impl Iterator<Item = usize> {
        let slots = prompt.slots.iter();
        slots.filter_map(move |&slot| self.population.slots[slot].shots[side])
    }

    fn sides<T>(&self, of: impl Fn(usize) -> Option<T>) -> Sided<T> {
        let there = |side: usize| side == 0 || self.population.compared;
        Sided::new(BOTH.map(|side| there(side).then(|| of(side)).flatten()))
    }
}

/// The sides' names in `scores.json`.
pub const SIDE_NAMES: [&str; SIDES] = ["scored", "against"];

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (count > 0).then(|| sum / count as f64)
}

fn exact(values: [Option<f64>; SIDES]) -> Sided<Estimate> {
    let sides = values.map(|v| v.map(Estimate::exact));
    let difference = values[0]
        .zip(values[1])
        .map(|(a, b)| Estimate::exact(a - b));
    Compared { sides, difference }.into()
}
