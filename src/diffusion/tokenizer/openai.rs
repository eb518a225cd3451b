//! The vocabulary of OpenAI's and open_clip's file of merges (`clip/simple_tokenizer.py`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::base::fsio;

/// The file.
pub(super) const FILE: &str = "bpe_simple_vocab_16e6.txt.gz";
/// How many merges are read of it: it has more, which no CLIP knows.
const MERGES: usize = 49_152 - 256 - 2;
/// Most bytes that it may unpack to; the published one has 3.2 MB.
const MOST: u64 = 16 << 20;
/// What ends a word.
const WORD_END: &str = "</w>";

/// Why it can't be read.
pub(super) enum Unread {
    /// The file.
    File(fsio::Error),
    /// What is wrong in it.
    Malformed(String),
}

/// The vocabulary, which ends with the tokens around a caption, and the merges, a line each.
pub(super) fn read(path: &Path, ends: [&str; 2]) -> Result<(Value, String), Unread> {
    let malformed = Unread::Malformed;
    let file = File::open(path).map_err(fsio::at("read", path));
    let file = file.map_err(Unread::File)?;
    let mut text = String::new();
    let read = GzDecoder::new(file).take(MOST).read_to_string(&mut text);
    read.map_err(|e| malformed(format!("not a gzipped text: {e}")))?;
    if text.len() as u64 == MOST {
        return Err(malformed(format!("it unpacks to more than {MOST} bytes")));
    }
    // The first line says what the file is.
    let lines: Vec<&str> = text.lines().skip(1).take(MERGES).collect();
    let bytes = byte_letters();
    let letters = bytes.iter().map(char::to_string);
    let words = bytes.iter().map(|c| format!("{c}{WORD_END}"));
    let merged = lines.iter().map(|line| line.replace(' ', ""));
    let special = ends.map(str::to_owned).into_iter();
    let mut vocabulary = Map::new();
    for (id, token) in letters
        .chain(words)
        .chain(merged)
        .chain(special)
        .enumerate()
    {
        if let Some(first) = vocabulary.insert(token.clone(), id.into()) {
            return Err(malformed(format!(
                "token `{token}` comes twice: as {first} and as {id}"
            )));
        }
    }
    Ok((Value::Object(vocabulary), lines.join("\n")))
}

/// The letter that stands for each byte, in the order of their tokens: printable ones first, as
/// themselves, then those that are not, as letters from 256 on.
fn byte_letters() -> Vec<char> {
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !printable(byte)).count() as u32;
    let letters = (0..256).filter(printable).chain(256..256 + others);
    letters.filter_map(char::from_u32).collect()
}
