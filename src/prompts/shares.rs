//! What shares of a population can be.

/// Shares are typed by hand (0.33, 0.33, 0.34) and must add up to 1 within this.
const TOLERANCE: f64 = 1e-6;

/// Whether these can be the shares of all values of an axis: each in 0..1, 1 together.
pub fn are_shares(shares: &[f64]) -> bool {
    let sum: f64 = shares.iter().sum();
    shares.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() <= TOLERANCE
}

/// How far the shares of one value may be from another's in a uniform target: thirds are typed as
/// 0.33, 0.33 and 0.34.
const TYPED: f64 = 0.01 + TOLERANCE;

/// Whether a target gives every value the same share, as far as people type it.
pub fn are_uniform(target: &[f64]) -> bool {
    let most = target.iter().copied().fold(0.0, f64::max);
    target.iter().all(|share| most - share <= TYPED)
}

/// Euclidean distance of shares and target: the fairness discrepancy.
pub fn distance(shares: &[f64], target: &[f64]) -> f64 {
    let squares = shares.iter().zip(target).map(|(s, t)| (s - t).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parts_of_one() {
        assert!(are_shares(&[0.333_333_3, 0.333_333_3, 0.333_333_3]));
        for other in [&[0.5, 0.4][..], &[1.5, -0.5], &[f64::NAN, 1.0], &[]] {
            assert!(!are_shares(other), "{other:?}");
        }
    }

    #[test]
    fn a_uniform_target_may_be_rounded() {
        for target in [
            &[0.5, 0.5][..],
            &[0.333_333_3, 0.333_333_3, 0.333_333_4],
            &[0.33, 0.34, 0.33],
            &[0.17, 0.17, 0.17, 0.17, 0.16, 0.16],
        ] {
            assert!(are_uniform(target), "{target:?}");
        }
        for target in [&[0.51, 0.49][..], &[0.5, 0.5, 0.0], &[1.0, 0.0]] {
            assert!(!are_uniform(target), "{target:?}");
        }
    }
}
