//! The values that options take, said once: the command line parses by them, and whoever calls the
//! library is held to them.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use clap::builder::TypedValueParser;

/// What an option can be a number of.
pub trait Number: PartialOrd + Copy + Display + FromStr + Send + Sync + 'static {
    /// The smallest one.
    const LEAST: Self;
    /// Whether it counts: a count that begins at 0 says so, a number that begins nowhere doesn't.
    const COUNTS: bool;
    /// The largest one; a range that ends there has no end worth a word.
    const MOST: Self;
}

impl Number for f64 {
    const LEAST: Self = f64::MIN;
    const COUNTS: bool = false;
    const MOST: Self = f64::MAX;
}

impl Number for f32 {
    const LEAST: Self = f32::MIN;
    const COUNTS: bool = false;
    const MOST: Self = f32::MAX;
}

impl Number for u32 {
    const LEAST: Self = u32::MIN;
    const COUNTS: bool = true;
    const MOST: Self = u32::MAX;
}

impl Number for u64 {
    const LEAST: Self = u64::MIN;
    const COUNTS: bool = true;
    const MOST: Self = u64::MAX;
}

impl Number for usize {
    const LEAST: Self = usize::MIN;
    const COUNTS: bool = true;
    const MOST: Self = usize::MAX;
}

/// The values that an option takes, and what they are: "a share from 0 to 1". Infinities and what is
/// no number are in none.
#[derive(Debug, Clone, Copy)]
pub struct Values<T> {
    what: &'static str,
    low: Bound<T>,
    high: Bound<T>,
}

impl<T: Number> Values<T> {
    /// Every number.
    pub const fn all(what: &'static str) -> Self {
        Self::within(what, T::LEAST, T::MOST)
    }

    /// From `low` on.
    pub const fn from(what: &'static str, low: T) -> Self {
        Self::within(what, low, T::MOST)
    }

    /// Above `low`.
    pub const fn above(what: &'static str, low: T) -> Self {
        Self {
            what,
            low: Bound::Excluded(low),
            high: Bound::Included(T::MOST),
        }
    }

    /// From `low` to `high`.
    pub const fn within(what: &'static str, low: T, high: T) -> Self {
        Self {
            what,
            low: Bound::Included(low),
            high: Bound::Included(high),
        }
    }

    /// From `low` to below `high`.
    pub const fn below(what: &'static str, low: T, high: T) -> Self {
        Self {
            what,
            low: Bound::Included(low),
            high: Bound::Excluded(high),
        }
    }

    /// Whether a value is one of the range.
    pub fn contains(&self, value: T) -> bool {
        (self.low, self.high).contains(&value)
    }

    /// A value of the range; else what was expected.
    ///
    /// # Errors
    /// For other texts.
    pub fn parse(&self, text: &str) -> Result<T, String> {
        let value = text.parse().ok().filter(|&value| self.contains(value));
        value.ok_or_else(|| format!("expected {self}"))
    }
}

impl<T: Number> Display for Values<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        match self.low {
            Bound::Included(low) if T::COUNTS || low > T::LEAST => write!(f, " from {low}")?,
            Bound::Excluded(low) => write!(f, " above {low}")?,
            _ => {}
        }
        match self.high {
            Bound::Included(high) if high < T::MOST => write!(f, " to {high}"),
            Bound::Excluded(high) => write!(f, " to below {high}"),
            _ => Ok(()),
        }
    }
}

impl<T: Number> TypedValueParser for Values<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let values = *self;
        let parse = move |text: &str| values.parse(text);
        TypedValueParser::parse_ref(&parse, command, argument, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_what_it_says_and_says_what_it_takes() {
        let share = Values::within("a share", 0.0, 1.0);
        assert_eq!(share.to_string(), "a share from 0 to 1");
        assert!(share.contains(0.0) && share.contains(1.0) && !share.contains(1.1));
        assert!(!share.contains(f64::NAN));
        let decay = Values::below("a number", 0.0, 1.0);
        assert_eq!(decay.to_string(), "a number from 0 to below 1");
        assert!(decay.contains(0.0) && !decay.contains(1.0));
        let positive = Values::above("a number", 0.0);
        assert_eq!(positive.to_string(), "a number above 0");
        assert!(!positive.contains(0.0) && !positive.contains(f64::INFINITY));
        assert_eq!(Values::<f32>::all("a number").to_string(), "a number");
        let count = Values::from("a number of pictures", 1_u32);
        assert_eq!(count.parse("3"), Ok(3));
        let refused = Err("expected a number of pictures from 1".to_owned());
        assert_eq!(count.parse("0"), refused);
        assert_eq!(count.parse("many"), refused);
    }
}
