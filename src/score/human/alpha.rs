//! Krippendorff's alpha for named values: how far raters agree, against what chance would give.

/// Alpha of `units` (what was rated), each with the values that its raters gave. Units with fewer
/// than two values say nothing. Nothing if no unit has two, or all values are the same (then
/// there is no chance to compare with).
///
/// Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): with n values in units of two
/// or more, alpha = 1 − (n − 1) · Σ_u Σ_{c≠k} n_uc n_uk / (m_u − 1) / Σ_{c≠k} n_c n_k.
pub fn krippendorff_nominal(units: &[Vec<usize>]) -> Option<f64> {
    let values = units.iter().flatten().max()? + 1;
    let mut totals = vec![0.0; values];
    let mut disagreement = 0.0;
    for unit in units.iter().filter(|unit| unit.len() > 1) {
        let mut counts = vec![0.0; values];
        unit.iter().for_each(|&value| counts[value] += 1.0);
        disagreement += mixed(&counts) / (unit.len() as f64 - 1.0);
        totals.iter_mut().zip(&counts).for_each(|(t, c)| *t += c);
    }
    let all: f64 = totals.iter().sum();
    let expected = mixed(&totals);
    (expected > 0.0).then(|| 1.0 - (all - 1.0) * disagreement / expected)
}

/// Σ_{c≠k} n_c n_k.
fn mixed(counts: &[f64]) -> f64 {
    let sum: f64 = counts.iter().sum();
    sum * sum - counts.iter().map(|c| c * c).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_chance_and_opposition() {
        let agreed = [vec![0, 0], vec![1, 1], vec![0, 0]];
        assert_eq!(krippendorff_nominal(&agreed), Some(1.0));
        // By hand: n = 4, each unit disagrees: 2 · 2/(2−1) = 4; expected 4² − 8 = 8; 1 − 3·4/8.
        let opposed = [vec![0, 1], vec![1, 0]];
        assert_eq!(krippendorff_nominal(&opposed), Some(-0.5));
        assert_eq!(krippendorff_nominal(&[vec![1, 1], vec![1, 1, 1]]), None);
        assert_eq!(krippendorff_nominal(&[vec![0], vec![1]]), None);
        assert_eq!(krippendorff_nominal(&[]), None);
    }

    /// Krippendorff's own example C (2011): two raters, ten units, 0.095 to three places.
    #[test]
    fn the_published_example() {
        let first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0];
        let second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0];
        let units: Vec<Vec<usize>> = first.iter().zip(second).map(|(a, b)| vec![*a, b]).collect();
        let alpha = krippendorff_nominal(&units).unwrap();
        assert!((alpha - 0.095).abs() < 5e-4, "{alpha}");
    }
}
