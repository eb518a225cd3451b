//! Raking: weights whose shares are given ones, as near to those of before as can be.
//!
//! Iterative proportional fitting (Deming and Stephan 1940): each axis in turn has its values' weights
//! scaled to their shares, until all axes hold. Of all weights that give these shares it finds those of
//! least relative entropy to the ones it began with (Csiszár 1975).

/// How near shares must come to a target for raking to end.
const CLOSE: f64 = 1e-9;
/// Passes over all axes. Targets that can be met together take tens; others never end.
const MOST_PASSES: usize = 1000;

/// An axis of things with weights.
pub(super) struct Margin {
    /// The value of each thing; none where it isn't known.
    pub(super) of: Vec<Option<usize>>,
    /// The share that each value should have among the things whose value is known.
    pub(super) target: Vec<f64>,
}

impl Margin {
    /// The weight of each value.
    fn sums(&self, weights: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.target.len()];
        for (value, weight) in self.of.iter().zip(weights) {
            if let Some(value) = value {
                sums[*value] += weight;
            }
        }
        sums
    }

    /// The share of each value among what is known; none where nothing is.
    pub(super) fn shares(&self, weights: &[f64]) -> Option<Vec<f64>> {
        let sums = self.sums(weights);
        let known: f64 = sums.iter().sum();
        (known > 0.0).then(|| sums.iter().map(|sum| sum / known).collect())
    }

    /// The share of all weight whose value isn't known.
    pub(super) fn unknown(&self, weights: &[f64]) -> f64 {
        let known: f64 = self.sums(weights).iter().sum();
        (1.0 - known / weights.iter().sum::<f64>()).max(0.0)
    }

    /// The largest distance of a share from its target.
    pub(super) fn off(&self, weights: &[f64]) -> f64 {
        let shares = self.shares(weights).unwrap_or_else(|| self.target.clone());
        let pairs = shares.iter().zip(&self.target);
        pairs.map(|(s, t)| (s - t).abs()).fold(0.0, f64::max)
    }

    /// Scales the weights to the target, or to what of it there are things for.
    fn fit(&self, weights: &mut [f64]) {
        let sums = self.sums(weights);
        let known: f64 = sums.iter().sum();
        let present = |(target, sum): (&f64, &f64)| if *sum > 0.0 { *target } else { 0.0 };
        let reachable: f64 = self.target.iter().zip(&sums).map(present).sum();
        if reachable <= 0.0 {
            return;
        }
        for (value, weight) in self.of.iter().zip(weights) {
            if let Some(value) = value.filter(|value| sums[*value] > 0.0) {
                *weight *= self.target[value] / reachable * known / sums[value];
            }
        }
    }
}

/// Changes the weights so that each axis has its target among the things whose value is known. Values
/// that nothing has leave theirs to the others; targets that can't be met together are met as far as
/// the last pass comes. Weights that have all targets stay bit by bit.
pub(super) fn rake(weights: &mut [f64], margins: &[Margin]) {
    for _ in 0..MOST_PASSES {
        if margins.iter().all(|margin| margin.off(weights) <= CLOSE) {
            return;
        }
        for margin in margins {
            margin.fit(weights);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What `scripts/oracle/rake.py` froze.
    #[derive(Deserialize)]
    struct Frozen {
        targets: Vec<Vec<f64>>,
        values: Vec<Vec<usize>>,
        weights: Vec<f64>,
        raked: Vec<f64>,
    }

    #[test]
    fn weights_are_ipfn_s() {
        let text = include_str!("../../../tests/fixtures/pairs/rake.json");
        let frozen: Frozen = serde_json::from_str(text).unwrap();
        let margins = frozen.values.iter().zip(frozen.targets);
        let margins: Vec<Margin> = margins
            .map(|(values, target)| Margin {
                of: values.iter().copied().map(Some).collect(),
                target,
            })
            .collect();
        let mut weights = frozen.weights;
        rake(&mut weights, &margins);
        for (found, expected) in weights.iter().zip(frozen.raked) {
            // Both stop a little before the limit.
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
        let before = weights.clone();
        rake(&mut weights, &margins);
        assert!(weights == before, "what holds stays");
    }

    #[test]
    fn what_is_missing_leaves_its_share_to_the_others() {
        let margin = Margin {
            of: vec![Some(0), Some(1), Some(1), None],
            target: vec![0.5, 0.25, 0.25],
        };
        let mut weights = [1.0; 4];
        rake(&mut weights, &[margin]);
        for (found, expected) in weights.into_iter().zip([2.0, 0.5, 0.5, 1.0]) {
            assert!((found - expected).abs() < 1e-12, "{weights:?}");
        }
        let nothing = || Margin {
            of: vec![Some(1), Some(1), None, None],
            target: vec![1.0, 0.0],
        };
        let mut weights = [1.0, 2.0, 3.0, 4.0];
        rake(&mut weights, &[nothing()]);
        assert!(
            weights
                .iter()
                .all(|weight| weight.is_finite() && *weight > 0.0)
        );
        assert!((nothing().unknown(&weights) - 0.7).abs() < 1e-12);
    }
}
