//! Rules that options must keep.

use std::borrow::Cow;

use super::{Error, Result};
use crate::base::Values;
use crate::base::values::Number;

/// An option and its value, whether that is fine, and what was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    option: &'static str,
    value: String,
    fine: bool,
    expected: Cow<'static, str>,
}

impl Rule {
    /// What a value must be.
    pub(crate) fn values<T: Number>(option: &'static str, value: T, values: Values<T>) -> Self {
        Self {
            option,
            value: value.to_string(),
            fine: values.contains(value),
            expected: values.to_string().into(),
        }
    }

    /// What an option must be beside others.
    pub(crate) fn beside(
        option: &'static str,
        value: impl std::fmt::Display + Copy,
        fine: bool,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            option,
            value: value.to_string(),
            fine,
            expected: expected.into(),
        }
    }
}

/// Refuses the first option of which a rule says so.
///
/// # Errors
/// [`Error::Option`].
pub(crate) fn check(rules: impl IntoIterator<Item = Rule>) -> Result<()> {
    match rules.into_iter().find(|rule| !rule.fine) {
        None => Ok(()),
        Some(rule) => Err(Error::Option {
            option: rule.option,
            value: rule.value,
            problem: format!("expected {}", rule.expected),
        }),
    }
}
