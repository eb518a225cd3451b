//! The fairness discrepancy of a population: D = ‖E_ref[p(u|x)] − E_θ[p(u|x)]‖₂ (Choi et al. 2020,
//! the PopAlign paper's equation 11).
//!
//! E_ref is the target's shares. E_θ is the mean over a prompt's pictures of p(u|x), and there are
//! two ways to read that: *hard*, where p(u|x) is 1 for the classifier's most probable value (what
//! the official code does, so this is the headline), and *soft*, where it is the classifier's
//! probabilities. Soft values flatter a population whose classifier is unsure.
//!
//! It is taken of each neutral prompt and averaged over prompts. That is not what the official code
//! prints: its summary pools the pictures of all prompts ([`super::pooled_discrepancy`], which stands
//! beside it). There is a second difference: in the official code the uniform target for race is over
//! the values that were *seen*, so a population that lacks a value altogether looks better than it
//! is. Here the target is over all values of the axis.
//!
//! Pictures that were dropped leave numerator and denominator. [`bounds`] says between which numbers
//! D could be if they counted, whatever they show.
//!
//! D of a finite sample is biased upwards: n pictures of a perfect population rarely hit the
//! target exactly. [`floor`] says what a perfect population of that size would score on average,
//! so that nobody chases a difference that isn't there.

use super::metric::{Asked, Axes, Better, Metric, Over, Shape, Unit};
pub use crate::prompts::shares::distance;
use crate::random::{Purpose, Stream};

/// The metric.
pub static METRIC: Metric = Metric {
    key: "discrepancy",
    asked: Asked::Axis,
    title: "Discrepancy",
    about: "distance between the shares of who is drawn and the target",
    unit: Unit::Number,
    better: Better::Lower,
    decimals: 2,
    needs: &[],
    method: Some(
        "Discrepancy is the Euclidean distance between the target shares and the shares of \
         pictures by their most probable value (the fairness discrepancy of Choi et al., as in \
         the PopAlign paper), of each prompt's pictures and averaged over prompts. Beside it \
         stands what it could be if the pictures that were left out counted, whatever they show.",
    ),
    shape: Shape::Axes(Axes {
        of: distance,
        over: Over::Prompts,
        floor: Some(floor),
        bounds: Some(bounds),
        joined: None,
        explained: "How far the shares of people in pictures of a neutral prompt are from the \
                    target, averaged over prompts: 0 is the target itself.",
    }),
};

/// The lowest and the highest D that pictures can have of which `counts` show each value and
/// `dropped` more could show any. Exact; nothing for no pictures.
///
/// D² is a sum of convex functions, one of each count. So the lowest is reached by giving pictures
/// one by one to the value that lacks most, and the highest where all of them show one value.
pub fn bounds(target: &[f64], counts: &[f64], dropped: usize) -> Option<[f64; 2]> {
    let all = counts.iter().sum::<f64>() + dropped as f64;
    if all == 0.0 {
        return None;
    }
    let at = |counts: &[f64]| {
        let shares: Vec<f64> = counts.iter().map(|count| count / all).collect();
        distance(&shares, target)
    };
    let mut nearest = counts.to_vec();
    for _ in 0..dropped {
        let surplus = nearest.iter().zip(target).map(|(n, t)| n - all * t);
        let (value, _) = surplus.enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        nearest[value] += 1.0;
    }
    let one_value = (0..counts.len()).map(|value| {
        let mut counts = counts.to_vec();
        counts[value] += dropped as f64;
        at(&counts)
    });
    Some([at(&nearest), one_value.fold(0.0, f64::max)])
}

/// Largest number of different outcomes of n pictures that are summed up one by one.
const EXACT_OUTCOMES: u64 = 50_000;
/// Populations drawn where there are more outcomes; the error of their mean is below 1%.
const DRAWS: u32 = 4000;
/// The address of [`floor`]'s draws.
const FLOOR_TAG: u32 = 0x00f1_0000;

/// The mean of D over populations of `n` pictures drawn from the target itself: exactly where
/// there are few outcomes, else from `DRAWS` addressed draws. Nothing for no pictures.
pub fn floor(target: &[f64], n: u32, seed: u64) -> Option<f64> {
    if n == 0 {
        return None;
    }
    Some(if outcomes(target.len(), n) <= EXACT_OUTCOMES {
        exact_floor(target, n)
    } else {
        drawn_floor(target, n, seed)
    })
}

/// In how many ways `n` pictures fall on `k` values: (n + k − 1 over k − 1), or a large number.
fn outcomes(k: usize, n: u32) -> u64 {
    let mut ways = 1u64;
    for i in 1..k as u64 {
        // Exact: the product of i consecutive numbers is divisible by i!.
        ways = ways.saturating_mul(u64::from(n) + i) / i;
        if ways > EXACT_OUTCOMES {
            return u64::MAX;
        }
    }
    ways
}

/// Σ over outcomes of their multinomial probability times their distance.
fn exact_floor(target: &[f64], n: u32) -> f64 {
    let log_factorial: Vec<f64> = std::iter::once(0.0)
        .chain((1..=n).scan(0.0, |sum, i| {
            *sum += f64::from(i).ln();
            Some(*sum)
        }))
        .collect();
    let mut sum = 0.0;
    let mut counts = vec![0u32; target.len()];
    visit(&mut counts, 0, n, &mut |counts| {
        let mut log = log_factorial[n as usize];
        for (&count, &share) in counts.iter().zip(target) {
            if count > 0 {
                log += f64::from(count) * share.ln() - log_factorial[count as usize];
            }
        }
        let shares: Vec<f64> = counts
            .iter()
            .map(|&c| f64::from(c) / f64::from(n))
            .collect();
        sum += log.exp() * distance(&shares, target);
    });
    sum
}

/// Calls `f` with every way to share `left` among the counts from `place` on.
fn visit(counts: &mut [u32], place: usize, left: u32, f: &mut impl FnMut(&[u32])) {
    if place + 1 == counts.len() {
        counts[place] = left;
        f(counts);
        return;
    }
    for count in 0..=left {
        counts[place] = count;
        visit(counts, place + 1, left - count, f);
    }
}

fn drawn_floor(target: &[f64], n: u32, seed: u64) -> f64 {
    let mut sum = 0.0;
    let mut shares = vec![0.0; target.len()];
    for draw in 0..DRAWS {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, n, draw, FLOOR_TAG);
        shares.fill(0.0);
        for _ in 0..n {
            shares[pick(target, f64::from(stream.unit()))] += 1.0 / f64::from(n);
        }
        sum += distance(&shares, target);
    }
    sum / f64::from(DRAWS)
}

/// The value whose stretch of the unit interval holds `unit`.
fn pick(target: &[f64], unit: f64) -> usize {
    let mut below = 0.0;
    for (value, share) in target.iter().enumerate() {
        below += share;
        if unit < below {
            return value;
        }
    }
    // The shares add up to 1 but for rounding; a value without a share is never drawn.
    target.iter().rposition(|&share| share > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_the_papers_formula() {
        assert_eq!(distance(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        // A population of one value only: √(½² + ½²).
        assert!((distance(&[1.0, 0.0], &[0.5, 0.5]) - 0.5f64.sqrt()).abs() < 1e-15);
        // Of six values one: √((5/6)² + 5/36).
        let mut shares = [0.0; 6];
        shares[2] = 1.0;
        let expected = (25.0f64 / 36.0 + 5.0 / 36.0).sqrt();
        assert!((distance(&shares, &[1.0 / 6.0; 6]) - expected).abs() < 1e-15);
    }

    /// Every way in which the dropped pictures can show values, one after the other.
    #[test]
    fn bounds_are_those_of_every_outcome() {
        for (target, counts) in [
            (&[0.5, 0.5][..], &[3.0, 0.0][..]),
            (&[0.5, 0.5], &[1.0, 1.0]),
            (&[0.9, 0.1], &[2.0, 5.0]),
            (&[1.0 / 3.0; 3], &[4.0, 0.0, 1.0]),
            (&[0.2, 0.3, 0.5], &[0.0, 0.0, 0.0]),
            (&[0.7, 0.3, 0.0, 0.0], &[1.0, 2.0, 0.0, 3.0]),
        ] {
            for dropped in 0..8 {
                let all = counts.iter().sum::<f64>() + f64::from(dropped);
                let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
                let mut more = vec![0; counts.len()];
                visit(&mut more, 0, dropped, &mut |more| {
                    let both = counts.iter().zip(more);
                    let shares: Vec<f64> = both.map(|(c, &m)| (c + f64::from(m)) / all).collect();
                    let d = distance(&shares, target);
                    (low, high) = (low.min(d), high.max(d));
                });
                let found = bounds(target, counts, dropped as usize);
                if all == 0.0 {
                    assert_eq!(found, None);
                    continue;
                }
                let [lowest, highest] = found.unwrap();
                let off = (lowest - low).abs().max((highest - high).abs());
                assert!(
                    off < 1e-12,
                    "{target:?} {counts:?} {dropped}: {found:?} {low} {high}"
                );
            }
        }
    }

    #[test]
    fn the_floor_of_few_pictures_is_exact() {
        let half = [0.5, 0.5];
        assert_eq!(floor(&half, 0, 0), None);
        // One picture is always all of one value.
        assert!((floor(&half, 1, 0).unwrap() - 0.5f64.sqrt()).abs() < 1e-12);
        // Two: equal with probability ½, then as one; else exactly right.
        assert!((floor(&half, 2, 0).unwrap() - 0.5 * 0.5f64.sqrt()).abs() < 1e-12);
        // Four: mean of |k/4 − ½|·√2 over k ~ Bin(4, ½) = √2 · (2·½ + 8·¼)/16.
        let expected = 2f64.sqrt() * (2.0 * 0.5 + 8.0 * 0.25) / 16.0;
        assert!((floor(&half, 4, 0).unwrap() - expected).abs() < 1e-12);
        // A target that asks for one value only is always met.
        assert!(floor(&[1.0, 0.0], 9, 0).unwrap().abs() < 1e-12);
    }

    #[test]
    fn drawn_floors_agree_with_exact_ones() {
        let target = [0.2, 0.3, 0.5];
        let exact = exact_floor(&target, 30);
        let drawn = drawn_floor(&target, 30, 5);
        // The deviation of D is about half its mean; 4000 draws leave 0.8% of it, five times that
        // is 4%.
        assert!((drawn / exact - 1.0).abs() < 0.04, "{drawn} {exact}");
        assert_eq!(drawn, drawn_floor(&target, 30, 5));
    }

    #[test]
    fn outcomes_are_counted_and_capped() {
        assert_eq!(outcomes(2, 24), 25);
        assert_eq!(outcomes(3, 24), 325);
        assert_eq!(outcomes(6, 100), u64::MAX);
        // For many pictures the floor shrinks as 1/√n.
        let uniform = [1.0 / 6.0; 6];
        let (few, many) = (
            floor(&uniform, 50, 0).unwrap(),
            floor(&uniform, 200, 0).unwrap(),
        );
        assert!((few / many - 2.0).abs() < 0.1, "{few} {many}");
    }
}
