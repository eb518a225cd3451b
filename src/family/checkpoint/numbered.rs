//! Names that count.

/// The leading dotted component of a name as a number, and the rest.
pub(super) fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.')?;
    Some((digits.parse().ok()?, rest))
}
