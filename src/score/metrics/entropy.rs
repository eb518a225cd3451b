//! How evenly pictures spread over the values of an axis, and over all axes.
//!
//! H(shares) / ln K of K values is 1 where all are drawn alike and 0 where only one is. Unlike the
//! discrepancy it knows no target. It is taken of each neutral prompt and averaged over prompts, as
//! the discrepancy is: pooled pictures would call a population even whose bakers are all men and
//! whose tailors are all women. *ID* (intrinsic diversity, as HoloFair calls it) is the geometric
//! mean over axes, so that one axis without variety makes it 0.

use super::metric::{Asked, Axes, Better, Joined, Metric, Over, Shape, Unit};

/// The metric.
pub static METRIC: Metric = Metric {
    key: "entropy",
    asked: Asked::Name("entropy"),
    title: "Normalised entropy",
    about: "how evenly pictures spread over an axis' values, and ID: its geometric mean over axes",
    unit: Unit::Number,
    better: Better::Higher,
    decimals: 2,
    needs: &[],
    method: Some(
        "Normalised entropy is the entropy of the shares of pictures by their most probable value, \
         divided by the logarithm of the number of values; intrinsic diversity (ID) is its \
         geometric mean over axes.",
    ),
    shape: Shape::Axes(Axes {
        of: normalised,
        over: Over::Prompts,
        floor: None,
        bounds: None,
        joined: Some(Joined {
            key: "id",
            title: "Intrinsic diversity",
            of: geometric_mean,
        }),
        explained: "How evenly the pictures of a neutral prompt spread over the values of an axis, \
                    whatever the target, averaged over prompts: 1 is all alike, 0 is one value \
                    only. With few pictures it is a little low.",
    }),
};

/// H / ln K, from 0 to 1; not a number for an axis of one value.
fn normalised(shares: &[f64], _target: &[f64]) -> f64 {
    let terms = shares.iter().filter(|&&share| share > 0.0);
    let entropy: f64 = terms.map(|share| share * (1.0 / share).ln()).sum();
    entropy / (shares.len() as f64).ln()
}

fn geometric_mean(values: &[f64]) -> f64 {
    let product: f64 = values.iter().product();
    product.powf(1.0 / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_shares_are_one_and_a_single_value_is_none() {
        assert!((normalised(&[1.0 / 3.0; 3], &[]) - 1.0).abs() < 1e-15);
        assert_eq!(normalised(&[0.0, 1.0, 0.0], &[]), 0.0);
        // In bits: ¼ · 2 + ¾ · log₂(4/3).
        let expected = 0.5 + 0.75 * (4.0f64 / 3.0).log2();
        assert!((normalised(&[0.25, 0.75], &[]) - expected).abs() < 1e-15);
        assert!(normalised(&[1.0], &[]).is_nan());
        assert!((geometric_mean(&[0.25, 1.0]) - 0.5).abs() < 1e-15);
        assert_eq!(geometric_mean(&[0.0, 1.0, 1.0]), 0.0);
    }
}
