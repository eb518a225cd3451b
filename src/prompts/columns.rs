//! Under which names captions stand in tables and objects, whoever made them.

use serde_json::{Map, Value};

/// Names of what holds a caption, best first: that of the PopAlign data files, then those of Hugging
/// Face's.
pub(crate) const COLUMNS: [&str; 4] = ["Prompt", "prompt", "text", "caption"];

/// [`COLUMNS`], for messages.
pub(crate) const ANY_COLUMN: &str = "`Prompt`, `prompt`, `text` or `caption`";

/// The caption of a row. Where several columns hold text, the first of [`COLUMNS`] that isn't blank
/// counts; what is not text is somebody's own and doesn't. Nothing where no column holds text.
pub(crate) fn caption(row: &Map<String, Value>) -> Option<&str> {
    let mut texts = COLUMNS
        .iter()
        .filter_map(|name| row.get(*name).and_then(Value::as_str));
    let first = texts.clone().next();
    texts.find(|text| !text.trim().is_empty()).or(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_column_that_says_something_counts() {
        for (row, expected) in [
            (json!({"text": "b", "prompt": "a"}), Some("a")),
            (json!({"prompt": "a", "Prompt": "A"}), Some("A")),
            (json!({"prompt": " ", "caption": "c"}), Some("c")),
            (json!({"prompt": null, "text": "b"}), Some("b")),
            (json!({"prompt": ["a"], "text": "b"}), Some("b")),
            (json!({"prompt": ""}), Some("")),
            (json!({"prompt": 1, "words": "x"}), None),
        ] {
            assert_eq!(caption(row.as_object().unwrap()), expected, "{row}");
        }
    }
}
