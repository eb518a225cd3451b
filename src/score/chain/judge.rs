//! From a model's raw outputs to probabilities, and from those to a verdict.

use super::{Attributes, DropReason, Output, Post, Verdict};

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
/// `units` are finite and of `Output::units`'s number, which the caller has checked; the error
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

/// The most probable value; the first of equals, as argmax does. `values` is never empty: an output
/// has labels or ranges.
pub(super) fn dominant(values: &[(String, f32)]) -> (&str, f32) {
    let mut best = ("", f32::NEG_INFINITY);
    for (value, p) in values {
        if *p > best.1 {
            best = (value, *p);
        }
    }
    best
}
