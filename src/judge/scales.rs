//! The axes that are scored: what a chain's labels mean on them, and what their target is.
//!
//! Two axes can be scored as one (`gender+skin`): its values are the pairs, its target the product
//! of the targets. Its soft shares take the classifier's outputs for independent.

use std::collections::BTreeMap;
use std::path::Path;

use super::chain::{Attributes, ChainManifest};
use super::error::{Both, Error, Result};
use super::reading::{Meaning, Silence, Standing};
use crate::base::fsio;
use crate::prompts::axes::Axis;
use crate::prompts::{Axes, are_shares};

/// What joins the names of axes.
pub const JOINT: char = '+';

/// An axis to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Its name, as captions and reports have it.
    pub name: String,
    /// Its values.
    pub values: Vec<String>,
    /// The share each value should have.
    pub target: Vec<f64>,
    /// What tells each of its axes.
    parts: Vec<Meaning>,
}

/// The scales of an axes file, as the chain measures them. Every axis must be measured and every
/// label of the chain must mean a value: each picture that counts then has one, and the shares add
/// up to 1.
///
/// # Errors
/// [`Error::Unmeasured`], [`Error::Meaningless`], [`Error::Misfit`].
pub fn from_axes(axes: &Axes, chain: &ChainManifest) -> Result<Vec<Scale>> {
    let measured = chain.axes();
    let both = || {
        Box::new(Both {
            axes: axes.file().to_path_buf(),
            chain: chain.file.clone(),
        })
    };
    let scale = |axis: &Axis| {
        let meaning = Meaning::of(axis);
        let labels = measured
            .get(meaning.output())
            .ok_or_else(|| Error::Unmeasured {
                both: both(),
                axis: axis.name.clone(),
                output: meaning.output().to_owned(),
                has: measured.keys().cloned().collect(),
            })?;
        if let Some(label) = labels.iter().find(|label| meaning.value(label).is_none()) {
            return Err(Error::Meaningless {
                both: both(),
                output: meaning.output().to_owned(),
                axis: axis.name.clone(),
                label: label.clone(),
                values: axis.values.clone(),
            });
        }
        meaning.check(chain).map_err(|misfit| Error::Misfit {
            both: both(),
            misfit,
        })?;
        Ok(Scale::of(meaning, axis.target.clone()))
    };
    axes.axes().iter().map(scale).collect()
}

/// The scales that a chain measures by itself, with uniform targets.
pub fn from_chain(chain: &ChainManifest) -> Vec<Scale> {
    let scale = |(name, values): (String, Vec<String>)| {
        let target = vec![1.0 / values.len() as f64; values.len()];
        Scale::of(Meaning::own(name, values), target)
    };
    chain.axes().into_iter().map(scale).collect()
}

/// The scale of all combinations of some scales' values.
pub fn joint(scales: &[&Scale]) -> Scale {
    let mut joint = Scale {
        name: names(scales),
        values: vec![String::new()],
        target: vec![1.0],
        parts: Vec::new(),
    };
    for scale in scales {
        let pairs = || joint.values.iter().zip(&joint.target);
        let mut values = Vec::new();
        let mut target = Vec::new();
        for (before, share) in pairs() {
            for (value, own) in scale.values.iter().zip(&scale.target) {
                values.push(format!("{before} {value}").trim_start().to_owned());
                target.push(share * own);
            }
        }
        joint.values = values;
        joint.target = target;
        joint.parts.extend(scale.parts.iter().cloned());
    }
    joint
}

fn names(scales: &[&Scale]) -> String {
    let names: Vec<&str> = scales.iter().map(|s| s.name.as_str()).collect();
    names.join(&JOINT.to_string())
}

impl Scale {
    /// One axis by itself.
    pub(crate) fn of(meaning: Meaning, target: Vec<f64>) -> Self {
        Self {
            name: meaning.axis().to_owned(),
            values: meaning.values().to_vec(),
            target,
            parts: vec![meaning],
        }
    }

    /// Where a picture with these attributes stands.
    ///
    /// # Errors
    /// Why it stands nowhere; never for scales made by [`from_axes`] or [`from_chain`] and a picture
    /// that the chain kept.
    pub fn read(&self, attributes: &Attributes) -> std::result::Result<Standing, Silence> {
        let mut joint = Standing {
            dominant: 0,
            shares: vec![1.0],
        };
        for part in &self.parts {
            let own = part.read(attributes)?;
            let before = joint.shares.iter();
            let products = before.flat_map(|before| own.shares.iter().map(move |s| before * s));
            joint = Standing {
                dominant: joint.dominant * own.shares.len() + own.dominant,
                shares: products.collect(),
            };
        }
        Ok(joint)
    }

    /// The index of a value.
    pub fn index(&self, value: &str) -> Option<usize> {
        self.values.iter().position(|v| v == value)
    }
}

/// Replaces targets by those of a file: `gender = { female = 0.5, male = 0.5 }`, in TOML.
///
/// # Errors
/// [`Error::Target`].
pub fn apply_targets(scales: &mut [Scale], path: &Path) -> Result<()> {
    let bad = |problem: String| Error::Target {
        path: path.to_path_buf(),
        problem,
    };
    let text = fsio::read_to_string(path)?;
    let file: BTreeMap<String, BTreeMap<String, f64>> = toml::from_str(&text)
        .map_err(|e| bad(format!("expected `axis = {{ value = share, … }}`: {e}")))?;
    for (name, shares) in file {
        let has: Vec<String> = scales.iter().map(|s| s.name.clone()).collect();
        let scale = scales.iter_mut().find(|s| s.name == name).ok_or_else(|| {
            bad(format!(
                "there is no axis `{name}`; there are {}",
                has.join(", ")
            ))
        })?;
        if let Some(unknown) = shares.keys().find(|v| scale.index(v).is_none()) {
            let values = scale.values.join(", ");
            return Err(bad(format!("{name}: `{unknown}` is none of {values}")));
        }
        let target: Vec<f64> = scale
            .values
            .iter()
            .map(|value| shares.get(value).copied().unwrap_or(0.0))
            .collect();
        if !are_shares(&target) {
            return Err(bad(format!(
                "{name}: expected shares in 0..1 that add up to 1"
            )));
        }
        scale.target = target;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainManifest {
        toml::from_str(
            r#"
            name = "test"
            [[model]]
            path = "m.onnx"
            input = "x"
            size = [8, 8]
            [[model.output]]
            output = "a"
            axis = "sex"
            labels = ["Woman", "Man"]
            [[model.output]]
            output = "b"
            axis = "race"
            labels = ["asian", "indian", "black"]
            "#,
        )
        .unwrap()
    }

    fn axes(classifier: &str) -> Axes {
        let text = format!(
            r#"
            [template]
            neutral = "a {{prompt}}"
            specific = "a {{gender}} {{prompt}}"
            [[axis]]
            name = "gender"
            values = ["male", "female"]
            classifier = {{ output = "sex", labels = {{ Woman = "female", Man = "male" }} }}
            [[axis]]
            name = "race"
            values = ["asian", "black"]
            target = [0.75, 0.25]
            {classifier}
            "#
        );
        Axes::parse(&text, Path::new("axes.toml")).unwrap()
    }

    const RACE: &str = r#"classifier = { output = "race",
        labels = { asian = "asian", indian = "asian", black = "black" } }"#;

    fn attributes() -> Attributes {
        let axis =
            |values: &[(&str, f32)]| values.iter().map(|(v, p)| ((*v).to_owned(), *p)).collect();
        Attributes {
            axes: BTreeMap::from([
                ("sex".into(), axis(&[("Woman", 0.75), ("Man", 0.25)])),
                (
                    "race".into(),
                    axis(&[("asian", 0.25), ("indian", 0.25), ("black", 0.5)]),
                ),
            ]),
            numbers: BTreeMap::new(),
        }
    }

    #[test]
    fn labels_are_read_by_what_they_mean() {
        let scales = from_axes(&axes(RACE), &chain()).unwrap();
        let gender = scales[0].read(&attributes()).unwrap();
        assert_eq!((gender.dominant, gender.shares), (1, vec![0.25, 0.75]));
        // Two labels mean "asian": together they are as probable, and the first of equals wins.
        let race = scales[1].read(&attributes()).unwrap();
        assert_eq!((race.dominant, race.shares), (0, vec![0.5, 0.5]));
        let both = joint(&[&scales[0], &scales[1]]);
        assert_eq!(both.name, "gender+race");
        assert_eq!(
            both.values,
            ["male asian", "male black", "female asian", "female black"]
        );
        assert_eq!(both.target, [0.375, 0.125, 0.375, 0.125]);
        let standing = both.read(&attributes()).unwrap();
        assert_eq!(standing.dominant, 2);
        assert_eq!(standing.shares, [0.125, 0.125, 0.375, 0.375]);
        let own = from_chain(&chain());
        let names: Vec<_> = own.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["race", "sex"]);
        assert_eq!(own[0].read(&attributes()).unwrap().dominant, 2);
    }

    #[test]
    fn what_the_chain_cannot_say_is_an_error() {
        let without = axes("");
        let error = from_axes(&without, &chain()).unwrap_err();
        assert!(matches!(&error, Error::Meaningless { label, .. } if label == "indian"));
        let other =
            axes(r#"classifier = { output = "skin", labels = { a = "asian", b = "black" } }"#);
        let error = from_axes(&other, &chain()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("has no `skin`; it measures race, sex"),
            "{error}"
        );
    }

    #[test]
    fn targets_come_from_a_file() {
        let mut scales = from_axes(&axes(RACE), &chain()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target.toml");
        let mut apply = |text: &str| {
            fsio::write(&path, text).unwrap();
            apply_targets(&mut scales, &path).map(|()| scales[0].target.clone())
        };
        let target = apply("gender = { female = 0.25, male = 0.75 }").unwrap();
        assert_eq!(target, [0.75, 0.25]);
        for (text, expected) in [
            (
                "sex = { Man = 1.0 }",
                "no axis `sex`; there are gender, race",
            ),
            ("gender = { man = 1.0 }", "`man` is none of male, female"),
            ("gender = { male = 0.7 }", "add up to 1"),
            ("gender = [0.5, 0.5]", "expected `axis ="),
        ] {
            let error = apply(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
