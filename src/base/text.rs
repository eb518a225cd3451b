//! Text as other programs leave it: with a byte-order mark in front, with any line ends.

use std::borrow::Cow;

/// The text without the byte-order mark that spreadsheet programs and Windows' editors put first.
pub(crate) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The text with every line end a line feed: CR LF and CR alone end a line too.
pub(crate) fn unix_lines(text: &str) -> Cow<'_, str> {
    match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        false => text.into(),
    }
}

/// How many lines end in the text.
pub(crate) fn line_ends(text: &str) -> usize {
    let ends = |end: &str| text.matches(end).count();
    ends("\n") + ends("\r") - ends("\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_end_counts_once() {
        let text = "a\nb\r\nc\rd\r\r\ne";
        assert_eq!(unix_lines(text), "a\nb\nc\nd\n\ne");
        assert_eq!(line_ends(text), 5);
        assert_eq!(without_bom("\u{feff}a"), "a");
    }
}
