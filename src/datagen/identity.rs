//! Identities that pictures are drawn towards: of each axis a value, by its share of the target.
//!
//! An identity is a function of (seed, caption, picture, axis), so it doesn't depend on how a run is cut,
//! and two methods draw the same ones for the same pictures.

use std::collections::BTreeMap;

use super::{Error, GuidanceKind, Picture, Request, Result};
use crate::data::dataset::Kind;
use crate::data::writer::TextFile;
use crate::diffusion::fair_pca::{FairPca, FairPcaNumbers};
use crate::prompts::axes::{Axis, Specific};
use crate::prompts::{Axes, caption_id};
use crate::random::{Purpose, Stream};

/// What a picture is drawn towards.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Drawn {
    /// The value of each axis.
    pub(super) values: BTreeMap<String, String>,
    /// The caption that says them, where the picture is drawn by that.
    pub(super) caption: Option<String>,
    /// Captions that it is edited towards, or away from.
    pub(super) edits: Vec<(String, bool)>,
    /// Where its embeddings are moved: of each axis a value, and which of its captions.
    pub(super) moves: Vec<(usize, usize)>,
}

/// How identities are drawn.
#[derive(Debug)]
pub(super) struct Identities {
    kind: GuidanceKind,
    seed: u64,
    axes: Axes,
    prompts: Vec<String>,
    /// Captions that name every axis.
    known: usize,
}

impl Identities {
    /// Those of a method that draws some.
    pub(super) fn of(
        request: &Request,
        axes: Option<&Axes>,
        prompts: &[String],
    ) -> Result<Option<Self>> {
        let kind = request.steering.kind;
        if !kind.draws_identities() {
            return Ok(None);
        }
        let Some(axes) = axes else {
            return Err(Error::Option {
                option: "guidance",
                value: kind.name(),
                problem: "it draws identities from the axes' target: give --axes".into(),
            });
        };
        Ok(Some(Self::new(
            kind,
            request.seed,
            axes.clone(),
            prompts.to_vec(),
        )))
    }

    fn new(kind: GuidanceKind, seed: u64, axes: Axes, prompts: Vec<String>) -> Self {
        let mut all = Self {
            kind,
            seed,
            axes,
            prompts,
            known: 0,
        };
        all.known = all.named().count();
        all
    }

    /// Edits of a picture.
    pub(super) fn edits(&self) -> usize {
        match self.kind {
            GuidanceKind::FairDiffusion => 2 * self.axes.named().len(),
            _ => 0,
        }
    }

    /// The captions that pictures are drawn by, edited towards or projected by.
    pub(super) fn captions(&self) -> Vec<String> {
        match self.kind {
            GuidanceKind::FairDiffusion => {
                let axes = self.axes.named().into_iter();
                axes.flat_map(|axis| axis.edits.iter().cloned()).collect()
            }
            _ => self.named().map(|named| named.caption).collect(),
        }
    }

    /// The captions that name every axis, and their values.
    fn named(&self) -> impl Iterator<Item = Specific> {
        let most = self.axes.named().len();
        let all = self
            .prompts
            .iter()
            .flat_map(|prompt| self.axes.specific(prompt));
        all.filter(move |named| named.values.len() == most)
    }

    /// Learns each axis' projection from the pooled embeddings of the captions that name its values.
    ///
    /// # Errors
    /// A caption without embeddings.
    pub(super) fn learn(&self, text: &TextFile, numbers: FairPcaNumbers) -> Result<Vec<FairPca>> {
        let captions: Vec<Specific> = self.named().collect();
        let axes = self.axes.named();
        let mut learnt = Vec::new();
        for axis in &axes {
            let mut groups = vec![Vec::new(); axis.values.len()];
            for named in &captions {
                let value = axis
                    .values
                    .iter()
                    .position(|v| *v == named.values[&axis.name]);
                let pooled = text
                    .get(caption_id(&named.caption))?
                    .pooled
                    .unwrap_or_default();
                groups[value.unwrap_or_default()].push(pooled);
            }
            let width = groups[0].first().map_or(0, |pooled: &&[f32]| pooled.len());
            learnt.push(FairPca::fit(&groups, width, numbers, axes.len() == 1));
        }
        Ok(learnt)
    }

    /// What a picture is drawn towards; nothing for one whose caption names values, unless the method
    /// projects every caption.
    pub(super) fn draw(&self, picture: &Picture<'_>) -> Option<Drawn> {
        let projects = self.kind == GuidanceKind::FairImagen;
        if picture.kind == Kind::Specific && !projects {
            return None;
        }
        let mut drawn = Drawn::default();
        for (place, axis) in (0..).zip(self.axes.named()) {
            let id = caption_id(picture.caption);
            let mut stream = Stream::new(self.seed, Purpose::Identity, id, picture.image_id, place);
            let value = pick(&axis.target, stream.unit());
            drawn
                .values
                .insert(axis.name.clone(), axis.values[value].clone());
            if self.kind == GuidanceKind::FairDiffusion {
                let other = other(axis, value, stream.unit());
                drawn.edits.push((axis.edits[other].clone(), true));
                drawn.edits.push((axis.edits[value].clone(), false));
            }
            if projects {
                // Each value has as many captions.
                let captions = self.known / axis.values.len();
                drawn
                    .moves
                    .push((value, stream.below(captions as u32) as usize));
            }
        }
        if self.kind == GuidanceKind::Resample {
            drawn.caption = Some(self.axes.naming(picture.subject, &drawn.values));
        }
        Some(drawn)
    }
}

/// Which value is to go: one of the others, by their shares; evenly where the target has none of them.
fn other(axis: &Axis, value: usize, at: f32) -> usize {
    let mut shares = axis.target.clone();
    shares[value] = 0.0;
    let rest: f64 = shares.iter().sum();
    let even = 1.0 / (shares.len() - 1) as f64;
    for (place, share) in shares.iter_mut().enumerate() {
        *share = match rest > 0.0 {
            true => *share / rest,
            false => f64::from(u8::from(place != value)) * even,
        };
    }
    pick(&shares, at)
}

/// The place of `at`, from 0 to below 1, among shares that add up to 1; never one without a share.
fn pick(shares: &[f64], at: f32) -> usize {
    let mut left = f64::from(at);
    let mut last = 0;
    for (place, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        last = place;
        if left < share {
            return place;
        }
        left -= share;
    }
    // Shares add up to 1 only but for their rounding.
    last
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const AXES: &str = r#"
        [template]
        neutral = "a {prompt}"
        specific = ["a {age} {prompt}", "a {age} {gender} {prompt}"]
        [[axis]]
        name = "gender"
        values = ["female", "male"]
        target = [0.25, 0.75]
        [[axis]]
        name = "age"
        values = ["young", "mid", "old"]
    "#;

    fn identities(kind: GuidanceKind) -> Identities {
        let axes = Axes::parse(AXES, Path::new("axes.toml")).unwrap();
        Identities::new(kind, 3, axes, vec!["cook".to_owned()])
    }

    fn picture(axes: &BTreeMap<String, String>, kind: Kind, image_id: u32) -> Picture<'_> {
        Picture {
            index: 0,
            subject: "cook",
            caption: "a cook",
            neutral: "a cook",
            kind,
            axes,
            image_id,
        }
    }

    #[test]
    fn identities_are_drawn_by_their_shares() {
        let (all, none) = (identities(GuidanceKind::Resample), BTreeMap::new());
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for image in 0..4000 {
            let drawn = all.draw(&picture(&none, Kind::Neutral, image)).unwrap();
            let (gender, age) = (&drawn.values["gender"], &drawn.values["age"]);
            assert_eq!(drawn.caption.unwrap(), format!("a {age} {gender} cook"));
            *counts.entry(gender.clone()).or_default() += 1;
            *counts.entry(age.clone()).or_default() += 1;
        }
        // Five standard deviations of a binomial.
        for (value, share) in [
            ("female", 0.25),
            ("male", 0.75),
            ("young", 1.0 / 3.0),
            ("old", 1.0 / 3.0),
        ] {
            let (found, expected) = (f64::from(counts[value]), 4000.0 * share);
            assert!(
                (found - expected).abs() < 5.0 * (expected * (1.0 - share)).sqrt(),
                "{counts:?}"
            );
        }
        assert_eq!(all.draw(&picture(&none, Kind::Specific, 0)), None);
    }

    #[test]
    fn a_method_has_every_caption_that_it_draws_by() {
        let none = BTreeMap::new();
        for kind in [GuidanceKind::Resample, GuidanceKind::FairDiffusion] {
            let all = identities(kind);
            let captions = all.captions();
            for image in 0..50 {
                let drawn = all.draw(&picture(&none, Kind::Neutral, image)).unwrap();
                assert_eq!(drawn.edits.len(), all.edits());
                let edits = drawn.edits.iter().map(|(caption, _)| caption);
                assert!(
                    edits.chain(&drawn.caption).all(|c| captions.contains(c)),
                    "{drawn:?}"
                );
                for pair in drawn.edits.chunks(2) {
                    assert!(
                        pair[0].1 && !pair[1].1 && pair[0].0 != pair[1].0,
                        "{pair:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn values_without_a_share_are_never_drawn() {
        assert_eq!(pick(&[0.0, 1.0, 0.0], 0.999_999_9), 1);
        assert_eq!(pick(&[0.0, 0.5, 0.5], 0.0), 1);
        let mut axis = identities(GuidanceKind::Resample).axes.axes()[1].clone();
        axis.target = vec![1.0, 0.0, 0.0];
        assert_eq!((other(&axis, 0, 0.2), other(&axis, 0, 0.8)), (1, 2));
        assert_eq!(other(&axis, 1, 0.99), 0);
    }
}
