//! What shares of a population can be.

/// Shares are typed by hand (0.33, 0.33, 0.34) and must add up to 1 within this.
const TOLERANCE: f64 = 1e-6;

/// Whether these can be the shares of all values of an axis: each in 0..1, 1 together.
pub fn are_shares(shares: &[f64]) -> bool {
    let sum: f64 = shares.iter().sum();
    shares.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() <= TOLERANCE
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
}
