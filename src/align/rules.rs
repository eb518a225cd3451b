//! Rules that options must keep.

use super::{Error, Result};

/// An option, its value, whether that is fine, and what is.
pub(crate) type Rule = (&'static str, String, bool, &'static str);

/// Refuses the first option of which a rule says so.
///
/// # Errors
/// [`Error::Option`].
pub(crate) fn check(rules: impl IntoIterator<Item = Rule>) -> Result<()> {
    match rules.into_iter().find(|(_, _, fine, _)| !fine) {
        None => Ok(()),
        Some((option, value, _, problem)) => Err(Error::Option {
            option,
            value,
            problem: problem.to_owned(),
        }),
    }
}

/// Whether a number is finite and above 0.
pub(crate) fn positive(x: f64) -> bool {
    x > 0.0 && x.is_finite()
}

/// Whether a number is finite and not below 0.
pub(crate) fn from_zero(x: f64) -> bool {
    x >= 0.0 && x.is_finite()
}
