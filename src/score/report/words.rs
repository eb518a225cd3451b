//! Numbers and what they amount to, in words.

use crate::score::bootstrap::Estimate;
use crate::score::metrics::metric::Unit;
use crate::score::scores::Sided;

/// A number with so many decimals and a real minus sign. What rounds to zero has no sign.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    match (text.strip_prefix('-'), zero) {
        (Some(digits), true) => digits.to_owned(),
        (Some(digits), false) => format!("\u{2212}{digits}"),
        (None, _) => text,
    }
}

/// A number with its sign.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    let zero = text.chars().all(|c| matches!(c, '0' | '.'));
    match zero || text.starts_with('\u{2212}') {
        true => text,
        false => format!("+{text}"),
    }
}

/// A share in percent.
pub(super) fn percent(share: f64, decimals: usize) -> String {
    format!("{}%", number(100.0 * share, decimals))
}

/// A number of a metric, with so many decimals.
pub(super) fn shown(value: f64, unit: Unit, decimals: usize) -> String {
    match unit {
        Unit::Number => number(value, decimals),
        Unit::Share => percent(value, decimals),
    }
}

/// A difference of a metric, with so many decimals.
pub(super) fn difference(value: f64, unit: Unit, decimals: usize) -> String {
    match unit {
        Unit::Number => signed(value, decimals),
        Unit::Share => format!("{} points", signed(100.0 * value, decimals)),
    }
}

/// The interval of an estimate: `0.41 to 0.47`.
pub(super) fn interval(estimate: &Estimate, show: impl Fn(f64) -> String) -> Option<String> {
    let (low, high) = estimate.interval()?;
    Some(format!("{} to {}", show(low), show(high)))
}

/// How a compared number changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Less than before, and so in the whole interval.
    Fell,
    /// More than before, and so in the whole interval.
    Rose,
    /// The interval of the difference holds 0.
    Unclear,
}

/// How a compared number changed, if there is a difference with an interval.
pub(super) fn change(compared: &Sided<Estimate>) -> Option<Change> {
    let (low, high) = compared.difference.as_ref()?.interval()?;
    Some(if high < 0.0 {
        Change::Fell
    } else if low > 0.0 {
        Change::Rose
    } else {
        Change::Unclear
    })
}

/// The difference as a share of what was before.
pub(super) fn relative(compared: &Sided<Estimate>) -> Option<f64> {
    let before = compared.against?.value;
    let difference = compared.difference?.value;
    (before != 0.0).then(|| difference / before)
}

/// "a", "a and b", "a, b and c".
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The text with its first letter as a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}

/// "1 prompt", "2 prompts".
pub(super) fn count(n: usize, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {one}{plural}")
}

/// A reason as words: `unsure_gender` is "unsure gender".
pub(super) fn reason(key: &str) -> String {
    key.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(0.4249, 2), "0.42");
        assert_eq!(number(-0.001, 2), "0.00");
        assert_eq!(number(-1.25, 1), "\u{2212}1.2");
        assert_eq!(signed(0.3, 1), "+0.3");
        assert_eq!(signed(-0.3, 1), "\u{2212}0.3");
        assert_eq!(signed(0.004, 2), "0.00");
        assert_eq!(percent(0.125, 1), "12.5%");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(capital("über"), "Über");
        assert_eq!(
            (count(1, "prompt"), count(0, "prompt")),
            ("1 prompt".into(), "0 prompts".into())
        );
    }

    #[test]
    fn a_change_is_only_claimed_when_the_interval_says_so() {
        let compared = |low: f64, high: f64| Sided {
            scored: Some(Estimate::exact(0.2)),
            against: Some(Estimate::exact(0.4)),
            difference: Some(Estimate {
                value: -0.2,
                low: Some(low),
                high: Some(high),
            }),
        };
        assert_eq!(change(&compared(-0.3, -0.1)), Some(Change::Fell));
        assert_eq!(change(&compared(-0.3, 0.1)), Some(Change::Unclear));
        assert_eq!(change(&compared(0.1, 0.3)), Some(Change::Rose));
        assert_eq!(relative(&compared(0.0, 0.0)), Some(-0.5));
    }
}
