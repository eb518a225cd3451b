//! Captions in files beside pictures: `x.json` as PopAlign's scripts write it, `x.caption` and `x.txt`
//! as kohya's trainers read them.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::base::{fsio, text};
use crate::score::{Error, Result};

/// Extensions of kohya's caption files, of which the first there is counts.
const KOHYA: [&str; 2] = ["caption", "txt"];

/// The file that PopAlign's scripts write beside each picture.
#[derive(Deserialize)]
struct Sidecar {
    prompt: String,
}

/// The caption in a file beside a picture, if there is one.
///
/// # Errors
/// A caption file of kohya's that can't be read or says nothing.
pub(super) fn beside(picture: &Path) -> Result<Option<String>> {
    if let Some(prompt) = sidecar(picture) {
        return Ok(Some(prompt));
    }
    for extension in KOHYA {
        let path = picture.with_extension(extension);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(fsio::at("read", &path)(error).into()),
            Ok(bytes) => bytes,
        };
        return first_line(&bytes).map(Some).map_err(|problem| Error::Row {
            path,
            line: 1,
            problem: problem.to_owned(),
        });
    }
    Ok(None)
}

/// A `.json` of another kind is none of ours.
fn sidecar(picture: &Path) -> Option<String> {
    let text = fs::read_to_string(picture.with_extension("json")).ok()?;
    let text = text::without_bom(&text);
    serde_json::from_str(text).ok().map(|s: Sidecar| s.prompt)
}

/// Kohya's trainers take the first line.
fn first_line(bytes: &[u8]) -> std::result::Result<String, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no caption: expected a text in UTF-8")?;
    let line = text::without_bom(text).split(['\n', '\r']).next();
    match line.map(str::trim) {
        Some("") | None => Err("no caption: expected a text in the first line"),
        Some(caption) => Ok(caption.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_files_beside_a_picture_brings_its_caption() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("a.b.png");
        let write = |name: &str, bytes: &[u8]| fsio::write(dir.path().join(name), bytes).unwrap();
        assert_eq!(beside(&picture).unwrap(), None);
        write("a.b.txt", "\u{feff} a man, käse \r\nmore\n".as_bytes());
        write("a.txt", b"of another picture");
        assert_eq!(beside(&picture).unwrap().unwrap(), "a man, käse");
        write("a.b.caption", b"a woman\rmore");
        assert_eq!(beside(&picture).unwrap().unwrap(), "a woman");
        // A file of somebody else's says nothing, one of PopAlign's says all.
        write("a.b.json", b"{\"tags\": []}");
        assert_eq!(beside(&picture).unwrap().unwrap(), "a woman");
        write("a.b.json", b"{\"prompt\": \"x\"}");
        assert_eq!(beside(&picture).unwrap().unwrap(), "x");
    }

    #[test]
    fn caption_files_that_say_nothing_are_named() {
        for bytes in [&b""[..], b" \nx", b"\xff\xfea\0"] {
            let dir = tempfile::tempdir().unwrap();
            fsio::write(dir.path().join("1.txt"), bytes).unwrap();
            let error = beside(&dir.path().join("1.png")).unwrap_err().to_string();
            assert!(
                error.contains("1.txt:1: no caption: expected a text"),
                "{error}"
            );
        }
    }
}
