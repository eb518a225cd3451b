//! Files of JSON.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{fsio, text};

/// Why a file of JSON can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file itself.
    #[error(transparent)]
    Io(#[from] fsio::Error),
    /// Not what it should be.
    #[error("{} is not {what}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

/// Reads a file of JSON; `what` is what it should be, for messages.
///
/// # Errors
/// [`Error`] naming the file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, Error> {
    parse(&fsio::read(path)?, path, what)
}

/// The contents of a file of JSON.
///
/// # Errors
/// [`Error::Json`] naming the file.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    what: &'static str,
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(failed(path, what))
}

/// The values of JSON lines, each with the line on which it begins. A byte-order mark may stand in front,
/// lines may end as they like, and a value may take several: Arrow, which reads them for Hugging Face,
/// allows the same.
///
/// # Errors
/// The line on which something begins that is no value, and the parser's reason.
pub(crate) fn values(text: &str) -> Result<Vec<(usize, Value)>, (usize, serde_json::Error)> {
    let text = text::unix_lines(text::without_bom(text));
    let mut stream = serde_json::Deserializer::from_str(&text).into_iter();
    let (mut values, mut line, mut rest) = (Vec::new(), 1, &*text);
    loop {
        let next = rest.trim_start();
        line += text::line_ends(&rest[..rest.len() - next.len()]);
        let Some(value) = stream.next() else {
            return Ok(values);
        };
        values.push((line, value.map_err(|e| (line, e))?));
        rest = &text[stream.byte_offset()..];
        line += text::line_ends(&next[..next.len() - rest.len()]);
    }
}

/// JSON as Python writes it, which has bare words for what is no number: those become strings.
///
/// diffusers saves a `lambda_min_clipped` of -Infinity with every multistep solver.
pub(crate) fn python_words_quoted(bytes: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(bytes.len());
    let (mut inside, mut at) = (false, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word = WORDS.iter().find(|word| !inside && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend([b"\"", *word, b"\""].concat());
            at += word.len();
            continue;
        }
        let taken = if inside && rest[0] == b'\\' { 2 } else { 1 };
        inside ^= rest[0] == b'"';
        quoted.extend(&rest[..taken.min(rest.len())]);
        at += taken;
    }
    quoted
}

/// The same words as Python reads them, in JSON whose strings they were made.
pub(crate) fn python_words_bare(text: &str) -> String {
    ["-Infinity", "Infinity", "NaN"]
        .iter()
        .fold(text.to_owned(), |text, word| {
            text.replace(&format!(": \"{word}\""), &format!(": {word}"))
        })
}

/// Writes a file of indented JSON.
///
/// # Errors
/// What the disk refuses.
pub(crate) fn write(path: &Path, what: &'static str, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(failed(path, what))?;
    Ok(fsio::write(path, text + "\n")?)
}

/// A value on one line, for a file of JSON lines.
///
/// # Errors
/// [`Error::Json`] naming the file.
pub(crate) fn line(
    path: &Path,
    what: &'static str,
    value: &impl Serialize,
) -> Result<String, Error> {
    serde_json::to_string(value).map_err(failed(path, what))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
    move |source| Error::Json {
        path: path.to_path_buf(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_know_where_they_begin() {
        let text = "\u{feff}{\"a\": 1}\r\n\r\n\"b\"\r[\n2\n]\n7";
        let values = values(text).unwrap();
        let values: Vec<String> = values.iter().map(|(l, v)| format!("{l} {v}")).collect();
        assert_eq!(values, ["1 {\"a\":1}", "3 \"b\"", "4 [2]", "7 7"]);
        let error = super::values("1\r\"open\r2\r").unwrap_err();
        assert_eq!(error.0, 2);
    }

    #[test]
    fn pythons_words_come_and_go() {
        let text = r#"{"a": -Infinity, "b": NaN, "c\"": "Infinity \" -Infinity", "d": [Infinity]}"#;
        let quoted = python_words_quoted(text.as_bytes());
        let value: Value = serde_json::from_slice(&quoted).unwrap();
        assert_eq!(value["a"], "-Infinity");
        assert_eq!(value["b"], "NaN");
        assert_eq!(value["c\""], "Infinity \" -Infinity");
        assert_eq!(value["d"][0], "Infinity");
        let bare = python_words_bare(r#"{"a": "-Infinity", "b": "x"}"#);
        assert_eq!(bare, r#"{"a": -Infinity, "b": "x"}"#);
        assert_eq!(python_words_quoted(br#"{"a\"#), br#"{"a\"#);
    }
}
