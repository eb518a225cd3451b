//! Which numbers to compute: `--metrics gender,gender+skin,recall,clip,…`.

use super::{Error, Result};
use crate::judge::scales::{JOINT, Scale, joint};

/// Names that are no axes.
const OTHERS: [&str; 4] = ["recall", "clip", "reference", "similarity"];
/// Quality scores that the design names and that are not built yet.
const PLANNED: [&str; 3] = ["aesthetic", "hps", "pick"];

/// What the run has at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtHand {
    /// A bundle with both CLIP towers.
    pub clip: bool,
    /// A bank of reference pictures.
    pub reference: bool,
    /// Pictures to compare with.
    pub against: bool,
}

/// What to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// The axes to score, joint ones after the others.
    pub scales: Vec<Scale>,
    /// Whether captions that name values are obeyed.
    pub recall: bool,
    /// Agreement of picture and caption.
    pub clip: bool,
    /// Distance to reference pictures.
    pub reference: bool,
    /// How alike the two sides' pictures of one seed are.
    pub similarity: bool,
}

impl Metrics {
    /// Everything that can be computed with what is at hand.
    pub fn all(scales: &[Scale], at_hand: AtHand) -> Self {
        Self {
            scales: scales.to_vec(),
            recall: true,
            clip: at_hand.clip,
            reference: at_hand.clip && at_hand.reference,
            similarity: at_hand.against,
        }
    }

    /// Discrepancies and nothing else.
    pub fn axes(scales: Vec<Scale>) -> Self {
        Self {
            scales,
            recall: false,
            clip: false,
            reference: false,
            similarity: false,
        }
    }

    /// Those asked for by name.
    ///
    /// # Errors
    /// [`Error::UnknownMetric`], [`Error::NotYet`], [`Error::MetricNeeds`].
    pub fn chosen(names: &[String], scales: &[Scale], at_hand: AtHand) -> Result<Self> {
        let mut metrics = Self::axes(Vec::new());
        for name in names.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
            if let Some(scale) = scale(name, scales)? {
                if !metrics.scales.iter().any(|s| s.name == scale.name) {
                    metrics.scales.push(scale);
                }
                continue;
            }
            match name {
                "recall" => metrics.recall = true,
                "clip" => metrics.clip = true,
                "reference" => metrics.reference = true,
                "similarity" => metrics.similarity = true,
                _ if PLANNED.contains(&name) => {
                    return Err(Error::NotYet {
                        name: name.to_owned(),
                        known: known(scales),
                    });
                }
                _ => return Err(unknown(name, scales)),
            }
        }
        metrics.check(at_hand)?;
        Ok(metrics)
    }

    fn check(&self, at_hand: AtHand) -> Result<()> {
        let towers = "--model BUNDLE with the parts clip_text and clip_vision";
        let needs = [
            (self.clip && !at_hand.clip, "clip", towers),
            (self.reference && !at_hand.clip, "reference", towers),
            (
                self.reference && !at_hand.reference,
                "reference",
                "--model BUNDLE with reference.safetensors",
            ),
            (
                self.similarity && !at_hand.against,
                "similarity",
                "--against DIR",
            ),
        ];
        match needs.into_iter().find(|(missing, ..)| *missing) {
            None => Ok(()),
            Some((_, name, needs)) => Err(Error::MetricNeeds {
                name: name.to_owned(),
                needs: needs.to_owned(),
            }),
        }
    }

    /// Their names, as `--metrics` takes them.
    pub fn names(&self) -> Vec<String> {
        let others = [self.recall, self.clip, self.reference, self.similarity];
        let others = OTHERS.iter().zip(others).filter(|(_, on)| *on);
        let scales = self.scales.iter().map(|s| s.name.clone());
        scales.chain(others.map(|(n, _)| (*n).to_owned())).collect()
    }
}

/// The scale of that name, or of those names with `+` between.
fn scale(name: &str, scales: &[Scale]) -> Result<Option<Scale>> {
    let find = |name: &str| scales.iter().find(|s| s.name == name);
    if let Some(scale) = find(name) {
        return Ok(Some(scale.clone()));
    }
    if !name.contains(JOINT) {
        return Ok(None);
    }
    let parts: Option<Vec<&Scale>> = name.split(JOINT).map(find).collect();
    let parts = parts.ok_or_else(|| unknown(name, scales))?;
    let repeated = (1..parts.len()).any(|i| parts[..i].contains(&parts[i]));
    match repeated {
        true => Err(unknown(name, scales)),
        false => Ok(Some(joint(&parts))),
    }
}

fn unknown(name: &str, scales: &[Scale]) -> Error {
    Error::UnknownMetric {
        name: name.to_owned(),
        known: known(scales),
    }
}

fn known(scales: &[Scale]) -> Vec<String> {
    let axes = scales.iter().map(|s| s.name.clone());
    let example = match scales {
        [first, second, ..] => Some(format!("{}{JOINT}{}", first.name, second.name)),
        _ => None,
    };
    let others = OTHERS.iter().map(|&n| n.to_owned());
    axes.chain(example).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: AtHand = AtHand {
        clip: true,
        reference: true,
        against: true,
    };

    fn scales() -> Vec<Scale> {
        let chain = toml::from_str(
            r#"
            name = "test"
            [[model]]
            path = "m.onnx"
            input = "x"
            size = [8, 8]
            [[model.output]]
            output = "a"
            axis = "gender"
            labels = ["female", "male"]
            [[model.output]]
            output = "b"
            axis = "skin"
            labels = ["dark", "light"]
            "#,
        );
        crate::judge::scales::from_chain(&chain.unwrap())
    }

    fn chosen(names: &str, at_hand: AtHand) -> Result<Metrics> {
        let names: Vec<String> = names.split(',').map(str::to_owned).collect();
        Metrics::chosen(&names, &scales(), at_hand)
    }

    #[test]
    fn names_choose_and_are_given_back() {
        let metrics = chosen("skin, gender+skin,skin,recall,clip", ALL).unwrap();
        assert_eq!(metrics.names(), ["skin", "gender+skin", "recall", "clip"]);
        assert_eq!(metrics.scales[1].values.len(), 4);
        let all = Metrics::all(&scales(), ALL);
        assert_eq!(
            all.names(),
            [
                "gender",
                "skin",
                "recall",
                "clip",
                "reference",
                "similarity"
            ]
        );
    }

    #[test]
    fn unknown_planned_and_impossible_metrics_are_different_errors() {
        let text = |names: &str, at_hand| chosen(names, at_hand).unwrap_err().to_string();
        let known = "gender, skin, gender+skin, recall, clip, reference, similarity";
        assert_eq!(
            text("race", ALL),
            format!("there is no metric `race`; there are {known}")
        );
        assert!(text("gender+race", ALL).contains("no metric `gender+race`"));
        assert!(text("gender+gender", ALL).contains("no metric"));
        assert!(text("hps", ALL).contains("`hps` is not built yet"));
        let none = AtHand {
            clip: false,
            reference: false,
            against: false,
        };
        assert!(text("clip", none).contains("needs --model BUNDLE with the parts"));
        assert!(text("similarity", none).contains("needs --against"));
        let bankless = AtHand {
            reference: false,
            ..ALL
        };
        assert!(text("reference", bankless).contains("reference.safetensors"));
    }
}
