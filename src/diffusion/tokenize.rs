//! Captions to token ids, by a CLIP tokenizer's own `tokenizer.json`.

use std::path::{Path, PathBuf};

use crate::fsio;

/// Why captions can't be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// Not a tokenizer.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// A CLIP tokenizer that fills every caption up to the same length.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    end: u32,
    padding: u32,
    length: usize,
}

impl Tokenizer {
    /// Opens a tokenizer folder: `tokenizer.json` and, for its padding token,
    /// `tokenizer_config.json`. Captions become `length` ids.
    ///
    /// # Errors
    /// A file is missing or says something that can't be.
    pub fn open(dir: &Path, length: usize) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        let bad = |problem: String| Error::Invalid {
            path: path.clone(),
            problem,
        };
        let bytes = fsio::read(&path)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| bad(e.to_string()))?;
        // Cut and filled here, so that the file's own settings don't matter.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| bad(e.to_string()))?;
        let id = |token: &str| inner.token_to_id(token);
        let end = id("<|endoftext|>").ok_or_else(|| bad("it has no <|endoftext|>".into()))?;
        let padding = match padding_token(dir)? {
            None => end,
            Some(token) => {
                id(&token).ok_or_else(|| bad(format!("it has no padding token \"{token}\"")))?
            }
        };
        Ok(Self {
            path,
            inner,
            end,
            padding,
            length,
        })
    }

    /// The ids of a caption: start, words, end, padding. A caption that is too long is cut, and
    /// keeps its end.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode(&self, caption: &str) -> Result<Vec<i64>, Error> {
        let encoding = self
            .inner
            .encode(caption, true)
            .map_err(|e| Error::Invalid {
                path: self.path.clone(),
                problem: format!("\"{caption}\": {e}"),
            })?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > self.length {
            ids.truncate(self.length - 1);
            ids.push(self.end);
        }
        ids.resize(self.length, self.padding);
        Ok(ids.into_iter().map(i64::from).collect())
    }
}

/// The `pad_token` of `tokenizer_config.json`: a string, or an object with its `content`.
fn padding_token(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let config: serde_json::Value =
        serde_json::from_slice(&fsio::read(&path)?).map_err(|e| Error::Invalid {
            path: path.clone(),
            problem: e.to_string(),
        })?;
    let token = &config["pad_token"];
    let text = token.as_str().or_else(|| token["content"].as_str());
    Ok(text.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(length: usize) -> Tokenizer {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/tokenizer");
        Tokenizer::open(&dir, length).unwrap()
    }

    #[test]
    fn captions_are_filled_up_and_cut() {
        let ids = demo(77).encode("a photo of a Doctor").unwrap();
        assert_eq!(ids.len(), 77);
        assert_eq!(ids[0], 735);
        // Five words, each one token, then the end token as padding too.
        assert!(ids[1..6].iter().all(|&id| id < 735));
        assert!(ids[6..].iter().all(|&id| id == 736));
        let cut = demo(4).encode("a photo of a doctor").unwrap();
        assert_eq!(cut[..3], ids[..3]);
        assert_eq!(cut[3], 736);
    }

    #[test]
    fn a_folder_without_a_tokenizer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Tokenizer::open(dir.path(), 77).unwrap_err();
        assert!(matches!(error, Error::File(_)));
        fsio::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let error = Tokenizer::open(dir.path(), 77).unwrap_err();
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
