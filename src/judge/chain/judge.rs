//! From a model's raw outputs to probabilities, and from those to a verdict.

use super::manifest::{Output, Post};
use super::verdict::{Attributes, DropReason, Verdict, dominant};

/// What one output says about a picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measure {
    /// Each value and its probability.
    pub(super) values: Vec<(String, f32)>,
    /// Σ i·p(i) of an output with ranges.
    pub(super) number: Option<f32>,
}

/// Turns an output's units into the probabilities of its values.
///
/// `units` are finite and as many as [`Output::takes`], which the caller has checked; the error
/// says what else is wrong with them.
pub(super) fn measure(output: &Output, units: &[f32]) -> Result<Measure, String> {
    let unit = probabilities(output.post, units)?;
    let total: f64 = unit.iter().sum();
    let mut values: Vec<(String, f64)> = output
        .values()
        .into_iter()
        .map(|value| (value, 0.0))
        .collect();
    let mut add = |name: &str, p: f64| {
        if let Some(value) = values.iter_mut().find(|(value, _)| value == name) {
            value.1 += p;
        }
    };
    for (label, p) in output.labels.iter().zip(&unit) {
        add(label, *p);
    }
    for range in &output.ranges {
        add(&range.value, unit[range.from..range.to].iter().sum());
    }
    // Ranges may leave units out: the shares are then of what they cover.
    let covered: f64 = values.iter().map(|(_, p)| p).sum();
    if covered <= 0.0 {
        return Err(format!("probabilities that add up to {covered}"));
    }
    let number = (!output.ranges.is_empty()).then(|| {
        let weighted = (0..).zip(&unit).map(|(i, p)| f64::from(i) * p);
        (weighted.sum::<f64>() / total) as f32
    });
    Ok(Measure {
        values: values
            .into_iter()
            .map(|(value, p)| (value, (p / covered) as f32))
            .collect(),
        number,
    })
}

/// The units' probabilities; a single unit of a sigmoid or of probabilities becomes two.
fn probabilities(post: Post, units: &[f32]) -> Result<Vec<f64>, String> {
    let units = units.iter().map(|&u| f64::from(u));
    match post {
        Post::Softmax => {
            let max = units.clone().fold(f64::NEG_INFINITY, f64::max);
            let exp: Vec<f64> = units.map(|u| (u - max).exp()).collect();
            let sum: f64 = exp.iter().sum();
            Ok(exp.into_iter().map(|e| e / sum).collect())
        }
        Post::Sigmoid => Ok(units
            .map(|u| 1.0 / (1.0 + (-u).exp()))
            .flat_map(|p| [1.0 - p, p])
            .collect()),
        Post::Probabilities => {
            /// Half-precision models overshoot by rounding.
            const SLACK: f64 = 1e-2;
            let units: Vec<f64> = units.collect();
            if let Some(p) = units.iter().find(|p| !(-SLACK..=1.0 + SLACK).contains(*p)) {
                return Err(format!("{p}, which is no probability"));
            }
            let units: Vec<f64> = units.into_iter().map(|p| p.clamp(0.0, 1.0)).collect();
            Ok(match units[..] {
                [p] => vec![1.0 - p, p],
                _ => units,
            })
        }
    }
}

/// Puts the measures of a picture together. Gates speak first: what is wrong with a picture as a
/// whole says more than that an axis is unsure.
pub(super) fn verdict<'a>(
    measures: impl IntoIterator<Item = (&'a Output, Measure)> + Clone,
) -> Verdict {
    for (output, measure) in measures.clone() {
        let winner = dominant(&measure.values);
        if output.is_gate() && !output.keep.iter().any(|kept| kept == winner.0) {
            return Verdict::Dropped(DropReason::Gate(winner.0.to_owned()));
        }
    }
    let mut attributes = Attributes::default();
    for (output, measure) in measures {
        if dominant(&measure.values).1 < output.minimum {
            return Verdict::Dropped(DropReason::Unsure(output.axis.clone()));
        }
        if output.is_gate() {
            continue;
        }
        if let Some(number) = measure.number {
            attributes.numbers.insert(output.axis.clone(), number);
        }
        attributes.axes.insert(output.axis.clone(), measure.values);
    }
    Verdict::Kept(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Output {
        toml::from_str(&format!("output = \"x\"\n{text}")).unwrap()
    }

    fn shares(output: &Output, units: &[f32]) -> Vec<f32> {
        let values = measure(output, units).unwrap().values;
        values.into_iter().map(|(_, p)| p).collect()
    }

    #[test]
    fn units_become_probabilities() {
        let three = |post: &str| {
            output(&format!(
                "axis = \"a\"\npost = \"{post}\"\nlabels = [\"x\", \"y\", \"x\"]"
            ))
        };
        // Equal labels are added up, and large scores don't overflow.
        let logs = [1000.0, 1000.0 + 2f32.ln(), 1000.0];
        let found = shares(&three("softmax"), &logs);
        assert!(found.iter().all(|p| (p - 0.5).abs() < 1e-4), "{found:?}");
        assert_eq!(
            shares(&three("probabilities"), &[0.25, 0.5, 0.25]),
            [0.5, 0.5]
        );

        let two = |post: &str| {
            output(&format!(
                "axis = \"a\"\npost = \"{post}\"\nlabels = [\"no\", \"yes\"]"
            ))
        };
        assert_eq!(shares(&two("sigmoid"), &[0.0]), [0.5, 0.5]);
        assert_eq!(shares(&two("sigmoid"), &[1e9]), [0.0, 1.0]);
        assert_eq!(shares(&two("sigmoid"), &[-1e9]), [1.0, 0.0]);
        assert_eq!(shares(&two("probabilities"), &[0.75]), [0.25, 0.75]);
        assert_eq!(shares(&two("probabilities"), &[1.001]), [0.0, 1.0]);
        let none = measure(&two("probabilities"), &[7.0]).unwrap_err();
        assert!(none.contains("no probability"), "{none}");
        let zero = measure(&three("probabilities"), &[0.0; 3]).unwrap_err();
        assert!(zero.contains("add up to 0"), "{zero}");
    }

    #[test]
    fn ranges_share_what_they_cover_and_keep_the_expectation() {
        let age = output(
            "axis = \"age\"\npost = \"probabilities\"\nranges = [{ value = \"young\", from = 0, to = 2 }, \
             { value = \"old\", from = 3, to = 4 }]",
        );
        let found = measure(&age, &[0.1, 0.3, 0.2, 0.4]).unwrap();
        assert_eq!(found.values, [("young".into(), 0.5), ("old".into(), 0.5)]);
        // 0.3 + 2 · 0.2 + 3 · 0.4
        assert!((found.number.unwrap() - 1.9).abs() < 1e-6);
    }

    #[test]
    fn gates_speak_before_doubts() {
        let gender = output("axis = \"gender\"\nlabels = [\"female\", \"male\"]\nminimum = 0.6");
        let gate = output("axis = \"visible\"\nlabels = [\"yes\", \"helmet\"]\nkeep = [\"yes\"]");
        let judge = |first: [f32; 2], second: [f32; 2]| {
            verdict([
                (&gender, measure(&gender, &first).unwrap()),
                (&gate, measure(&gate, &second).unwrap()),
            ])
        };
        let unsure = ([0.0, 0.1], [0.0, 9.0]);
        let helmet = Verdict::Dropped(DropReason::Gate("helmet".into()));
        assert_eq!(judge(unsure.0, unsure.1), helmet);
        let doubt = Verdict::Dropped(DropReason::Unsure("gender".into()));
        assert_eq!(judge([0.0, 0.1], [9.0, 0.0]), doubt);
        let Verdict::Kept(attributes) = judge([0.0, 3.0], [9.0, 0.0]) else {
            panic!("a clear picture is dropped");
        };
        assert_eq!(attributes.dominant("gender").unwrap().0, "male");
        assert!(!attributes.axes.contains_key("visible"));
        // Of equals the first by name.
        assert_eq!(dominant(&[("a".into(), 0.5), ("b".into(), 0.5)]).0, "a");
        assert_eq!(dominant(&[("b".into(), 0.5), ("a".into(), 0.5)]).0, "a");
    }
}
