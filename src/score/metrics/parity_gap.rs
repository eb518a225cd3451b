//! How far the value that is drawn most is from the one that is drawn least.
//!
//! For two values and an even target the discrepancy is this divided by √2, so that reductions in
//! percent compare with those of papers that give the gap.

use super::metric::{Asked, Axes, Better, Metric, Over, Shape, Unit};

/// The metric.
pub static METRIC: Metric = Metric {
    key: "parity_gap",
    asked: Asked::Name("parity"),
    title: "Parity gap",
    about: "largest minus smallest share among an axis' values",
    unit: Unit::Number,
    better: Better::Lower,
    decimals: 2,
    needs: &[],
    method: Some(
        "The parity gap is the largest minus the smallest share of pictures by their most \
         probable value.",
    ),
    shape: Shape::Axes(Axes {
        of: gap,
        over: Over::Prompts,
        floor: None,
        bounds: None,
        joined: None,
        explained: "The largest minus the smallest share among the values of an axis in pictures \
                    of a neutral prompt, averaged over prompts: 0 is all alike, 1 is one value \
                    only. With few pictures it is a little high.",
    }),
};

fn gap(shares: &[f64], _target: &[f64]) -> f64 {
    let most = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    most - least
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::metrics::discrepancy::distance;

    #[test]
    fn the_gap_of_two_values_is_the_discrepancy_times_root_two() {
        assert!((gap(&[0.5, 0.2, 0.3], &[]) - 0.3).abs() < 1e-15);
        assert_eq!(gap(&[1.0, 0.0, 0.0], &[]), 1.0);
        let shares = [0.85, 0.15];
        let expected = 2f64.sqrt() * distance(&shares, &[0.5, 0.5]);
        assert!((gap(&shares, &[]) - expected).abs() < 1e-15);
    }
}
