//! The sanity filter: what a classifier chain says of a picture, held to its caption.
//!
//! As the paper does ("we drop pairs that are incorrect or ambiguous", section 3): a picture in
//! which the chain can't tell the person is dropped for the chain's reason (`no_face`, `ambiguous`,
//! `unsure_age` …), and one of a specific caption that shows another value than the caption names
//! is dropped as `mismatch:AXIS`. Dropped pictures stay in the data set, marked: what was left out,
//! and why, is for everyone to see.

use std::collections::BTreeMap;
use std::path::Path;

use image::RgbImage;

use super::{Error, Picture, Result};
use crate::data::dataset::{Kind, Verdict};
use crate::judge::chain;
use crate::judge::chain::Chain;
use crate::prompts::Axes;
use crate::prompts::axes::AxisClassifier;
use crate::runtime::{Runtime, SessionOptions};

/// What a filter says of a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Judgement {
    /// What the chain saw, in the axes' values; nothing where it could not say.
    pub(super) verdict: Option<Verdict>,
    /// Why the picture is dropped.
    pub(super) dropped: Option<String>,
}

/// An axis and what the chain's labels mean for it.
type Meaning = (String, AxisClassifier);

/// A loaded chain with what its labels mean.
#[derive(Debug)]
pub(super) struct Filter {
    chain: Chain,
    meanings: Vec<Meaning>,
}

impl Filter {
    /// Loads a chain and checks that it measures what the axes file says it does.
    pub(super) fn open(
        runtime: &Runtime,
        manifest: &Path,
        options: &SessionOptions,
        axes: Option<&Axes>,
    ) -> Result<Self> {
        let chain = Chain::open(runtime, manifest, options)?;
        let measured = chain.manifest().axes();
        let mut meanings = Vec::new();
        for axis in axes.iter().flat_map(|axes| axes.axes()) {
            let Some(classifier) = &axis.classifier else {
                continue;
            };
            let bad = |key: &str, problem: String| Error::Axis {
                axis: axis.name.clone(),
                key: key.to_owned(),
                chain: manifest.to_path_buf(),
                problem,
            };
            let Some(labels) = measured.get(&classifier.output) else {
                let has: Vec<&str> = measured.keys().map(String::as_str).collect();
                let (output, has) = (&classifier.output, has.join(", "));
                return Err(bad(
                    "output",
                    format!("it measures no `{output}`, only {has}"),
                ));
            };
            if let Some(label) = classifier.labels.keys().find(|l| !labels.contains(l)) {
                let has = labels.join(", ");
                return Err(bad(
                    "labels",
                    format!("it has no label `{label}`, only {has}"),
                ));
            }
            meanings.push((axis.name.clone(), classifier.clone()));
        }
        Ok(Self { chain, meanings })
    }

    /// The chain's name and hash.
    pub(super) fn identity(&self) -> (String, String) {
        let name = self.chain.manifest().name.clone();
        (name, self.chain.sha256().to_owned())
    }

    /// Judges pictures, in order.
    pub(super) fn judge(
        &mut self,
        images: &[RgbImage],
        pictures: &[Picture<'_>],
    ) -> Result<Vec<Judgement>> {
        let verdicts = self.chain.classify(images)?;
        let both = verdicts.into_iter().zip(pictures);
        Ok(both
            .map(|(verdict, picture)| judgement(verdict, picture, &self.meanings))
            .collect())
    }
}

fn judgement(verdict: chain::Verdict, picture: &Picture<'_>, meanings: &[Meaning]) -> Judgement {
    let seen = match verdict {
        chain::Verdict::Dropped(reason) => {
            return Judgement {
                verdict: None,
                dropped: Some(reason.to_string()),
            };
        }
        chain::Verdict::Kept(attributes) => attributes,
    };
    let mut verdict = Verdict::new();
    let mut mismatch = None;
    for (axis, meaning) in meanings {
        let Some(labels) = seen.axes.get(&meaning.output) else {
            continue;
        };
        let shares = translated(labels, meaning);
        let wanted = picture
            .axes
            .get(axis)
            .filter(|_| picture.kind == Kind::Specific);
        if wanted.is_some_and(|wanted| dominant(&shares) != Some(wanted)) {
            mismatch = mismatch.or_else(|| Some(format!("mismatch:{axis}")));
        }
        verdict.insert(axis.clone(), shares);
    }
    // What no axis of the caption stands for is kept as the chain says it.
    let used = |output: &String| meanings.iter().any(|(_, m)| m.output == *output);
    for (output, labels) in &seen.axes {
        if !used(output) && !verdict.contains_key(output) {
            verdict.insert(output.clone(), labels.iter().cloned().collect());
        }
    }
    Judgement {
        verdict: Some(verdict),
        dropped: mismatch,
    }
}

/// Labels' probabilities as those of the axis' values; labels that mean no value keep their names.
fn translated(labels: &[(String, f32)], meaning: &AxisClassifier) -> BTreeMap<String, f32> {
    let mut shares = BTreeMap::new();
    for (label, share) in labels {
        let value = meaning.labels.get(label).unwrap_or(label);
        *shares.entry(value.clone()).or_insert(0.0) += share;
    }
    shares
}

/// The most probable value; of equals the first by name.
fn dominant(shares: &BTreeMap<String, f32>) -> Option<&String> {
    let best = shares.values().copied().fold(f32::MIN, f32::max);
    shares.iter().find(|(_, s)| **s >= best).map(|(v, _)| v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::chain::{Attributes, DropReason};

    fn meanings() -> Vec<Meaning> {
        let labels = [("Woman", "female"), ("Man", "male"), ("Boy", "male")];
        let classifier = AxisClassifier {
            output: "sex".into(),
            labels: labels.map(|(l, v)| (l.to_owned(), v.to_owned())).into(),
        };
        vec![("gender".into(), classifier)]
    }

    fn seen(labels: &[(&str, f32)]) -> chain::Verdict {
        let labels = labels.iter().map(|&(l, p)| (l.to_owned(), p)).collect();
        let hair = vec![("grey".to_owned(), 1.0)];
        let axes = BTreeMap::from([("sex".to_owned(), labels), ("hair".to_owned(), hair)]);
        chain::Verdict::Kept(Attributes {
            axes,
            ..Attributes::default()
        })
    }

    fn judge(verdict: chain::Verdict, kind: Kind, value: &str) -> Judgement {
        let axes = BTreeMap::from([("gender".to_owned(), value.to_owned())]);
        let picture = Picture {
            index: 0,
            subject: "cook",
            caption: "a cook",
            neutral: "a cook",
            kind,
            axes: &axes,
            image_id: 0,
        };
        judgement(verdict, &picture, &meanings())
    }

    #[test]
    fn labels_are_added_up_into_values_and_held_to_the_caption() {
        let mixed = || seen(&[("Woman", 0.4), ("Man", 0.25), ("Boy", 0.35)]);
        let right = judge(mixed(), Kind::Specific, "male");
        assert_eq!(right.dropped, None);
        let verdict = right.verdict.unwrap();
        assert_eq!(
            verdict["gender"],
            BTreeMap::from([("female".to_owned(), 0.4), ("male".to_owned(), 0.6)])
        );
        assert_eq!(verdict["hair"]["grey"], 1.0);
        let wrong = judge(mixed(), Kind::Specific, "female");
        assert_eq!(wrong.dropped.as_deref(), Some("mismatch:gender"));
        assert!(wrong.verdict.is_some());
    }

    #[test]
    fn a_label_without_a_meaning_is_no_value_of_the_caption() {
        let odd = seen(&[("Woman", 0.3), ("Man", 0.2), ("Statue", 0.5)]);
        let judged = judge(odd, Kind::Specific, "female");
        assert_eq!(judged.dropped.as_deref(), Some("mismatch:gender"));
        assert_eq!(judged.verdict.unwrap()["gender"]["Statue"], 0.5);
    }

    #[test]
    fn neutral_pictures_can_not_mismatch_and_reasons_pass_through() {
        let verdict = seen(&[("Woman", 1.0)]);
        assert_eq!(judge(verdict, Kind::Neutral, "male").dropped, None);
        let none = chain::Verdict::Dropped(DropReason::NoFace);
        let judged = judge(none, Kind::Neutral, "male");
        assert_eq!(judged.dropped.as_deref(), Some("no_face"));
        assert_eq!(judged.verdict, None);
    }
}
