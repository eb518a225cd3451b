//! The steps that are guided.

use std::fmt;
use std::str::FromStr;

use super::numbers::numbers;

/// From and to which share of the steps a drawing is guided (Kynkäänniemi et al., arXiv 2404.07724, by
/// steps as diffusers' `ClassifierFreeGuidance(start, stop)`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    start: f64,
    stop: f64,
}

impl Default for Interval {
    /// All of them.
    fn default() -> Self {
        Self {
            start: 0.0,
            stop: 1.0,
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.start, self.stop)
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [start, stop] = numbers(text).unwrap_or([f64::NAN; 2]);
        match 0.0 <= start && start < stop && stop <= 1.0 {
            true => Ok(Self { start, stop }),
            false => Err("expected LO,HI with 0 <= LO < HI <= 1, as 0,0.6".to_owned()),
        }
    }
}

impl Interval {
    /// Whether step `step` of `steps`, from 0, is in it.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "step numbers are small and not negative"
    )]
    pub fn has(&self, step: usize, steps: usize) -> bool {
        let at = |share: f64| (share * steps as f64) as usize;
        (at(self.start)..at(self.stop)).contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_shares_of_the_steps() {
        let middle: Interval = "0.25, 0.75".parse().unwrap();
        let seen: Vec<usize> = (0..10).filter(|&i| middle.has(i, 10)).collect();
        assert_eq!(seen, [2, 3, 4, 5, 6]);
        assert!((0..7).all(|i| Interval::default().has(i, 7)));
        assert_eq!(middle.to_string(), "0.25,0.75");
        for bad in ["", "0.5", "0.5,0.5", "-1,1", "0,1.5", "NaN,1", "0,1,2"] {
            assert!(bad.parse::<Interval>().is_err(), "{bad}");
        }
    }
}
