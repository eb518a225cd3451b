//! CLIP's tokenizer: from a caption to the token numbers that a text encoder takes.
//!
//! `tokenizer.json` is read where a checkpoint has it. The original checkpoints have only
//! `vocab.json` and `merges.txt` (byte-pair encoding); then the rest is put around them as
//! transformers' CLIP tokenizer has it: NFC, lower case, blanks joined, CLIP's word pattern,
//! `<|startoftext|>` before and `<|endoftext|>` after. OpenAI's own code and open_clip have the merges
//! in `bpe_simple_vocab_16e6.txt.gz`, of which the vocabulary follows (`openai`); their repairs of broken
//! texts (ftfy) and of HTML's entities are not made.
//!
//! Padding goes on the right with the tokenizer's own padding token; SDXL's second tokenizer pads
//! with `!`, number 0, and a text encoder sees the padding. A caption that is too long loses its
//! end, never its last token: the pooled embedding is read there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::base::fsio;

mod openai;

use openai::Unread;

const WHOLE: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// How CLIP cuts a text into words.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Why a tokenizer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// A folder without a tokenizer.
    #[error(
        "{} holds no tokenizer: expected tokenizer.json, or vocab.json and merges.txt, or \
         bpe_simple_vocab_16e6.txt.gz", dir.display()
    )]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A file that is not what it must be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A text that can't be tokenized.
    #[error("{}: cannot tokenize {text:?}: {reason}", dir.display())]
    Text {
        /// The tokenizer's folder.
        dir: PathBuf,
        /// The text.
        text: String,
        /// The tokenizer's reason.
        reason: String,
    },
}

/// A caption's token numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Start, text, end, padding.
    pub ids: Vec<i64>,
    /// How many bytes of the caption they stand for: all, unless it was too long and lost its end. A
    /// character of which only a part is seen is lost.
    pub kept: usize,
    /// The place of the last token of its text that is seen; that of the start for a caption without any.
    pub last: usize,
}

/// A tokenizer and how long its sequences are.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    dir: PathBuf,
    length: usize,
    end: i64,
    padding: i64,
}

impl Tokenizer {
    /// Reads the tokenizer in `dir`; its sequences are `length` tokens long.
    ///
    /// # Errors
    /// See [`Error`]; in particular a tokenizer without its end or padding token.
    pub fn open(dir: &Path, length: usize) -> Result<Self, Error> {
        let config = Config::of(dir)?;
        let (path, bytes) = config.whole(dir)?;
        let malformed = |problem: String| Error::Malformed {
            path: path.clone(),
            problem,
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| malformed(format!("not a tokenizer: {e}")))?;
        // Both are done here, so that a file's own settings can't do them differently.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| malformed(e.to_string()))?;
        let id = |token: &str| {
            let id = inner.token_to_id(token).map(i64::from);
            id.ok_or_else(|| malformed(format!("it has no token `{token}`")))
        };
        let (end, padding) = (id(&config.end)?, id(&config.padding)?);
        Ok(Self {
            inner,
            dir: dir.to_path_buf(),
            length,
            end,
            padding,
        })
    }

    /// Whether a folder has a tokenizer.
    pub fn is_in(dir: &Path) -> bool {
        [WHOLE, VOCABULARY, openai::FILE]
            .iter()
            .any(|name| dir.join(name).is_file())
    }

    /// How many tokens it knows.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token numbers of a caption.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn encode(&self, text: &str) -> Result<Tokens, Error> {
        let encoding = self.inner.encode(text, true).map_err(|e| Error::Text {
            dir: self.dir.clone(),
            text: text.to_owned(),
            reason: e.to_string(),
        })?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().copied().map(i64::from).collect();
        let mut kept = text.len();
        if ids.len() > self.length {
            // The caption's own end token is the last, so that this one is of its text.
            (kept, _) = encoding.get_offsets()[self.length - 1];
            while !text.is_char_boundary(kept) {
                kept -= 1;
            }
            ids.truncate(self.length - 1);
            ids.push(self.end);
        }
        let last = ids.len().saturating_sub(2);
        ids.resize(self.length, self.padding);
        Ok(Tokens { ids, kept, last })
    }
}

/// The special tokens, from the files beside the vocabulary.
struct Config {
    start: String,
    end: String,
    unknown: String,
    padding: String,
}

impl Config {
    fn of(dir: &Path) -> Result<Self, Error> {
        let mut files = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = dir.join(name);
            if path.is_file() {
                files.push(json_file(&path)?);
            }
        }
        let token = |key: &str, default: &str| {
            let text = |value: &Value| {
                let content = value.get("content").unwrap_or(value);
                content.as_str().map(str::to_owned)
            };
            let found = files.iter().find_map(|file| text(file.get(key)?));
            found.unwrap_or_else(|| default.to_owned())
        };
        Ok(Self {
            start: token("bos_token", START),
            end: token("eos_token", END),
            unknown: token("unk_token", END),
            padding: token("pad_token", END),
        })
    }

    /// A whole `tokenizer.json`, and the file that it is or was made of.
    fn whole(&self, dir: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = dir.join(WHOLE);
        if path.is_file() {
            let bytes = fsio::read(&path)?;
            return Ok((path, bytes));
        }
        let (vocab, merges, own) = (
            dir.join(VOCABULARY),
            dir.join(MERGES),
            dir.join(openai::FILE),
        );
        let (path, vocab, merges) = if vocab.is_file() && merges.is_file() {
            let found = json_file(&vocab)?;
            (vocab, found, fsio::read_to_string(&merges)?)
        } else if own.is_file() {
            let read = openai::read(&own, [START, END]);
            let (vocab, merges) = read.map_err(|unread| match unread {
                Unread::File(error) => error.into(),
                Unread::Malformed(problem) => Error::Malformed {
                    path: own.clone(),
                    problem,
                },
            })?;
            (own, vocab, merges)
        } else {
            return Err(Error::Missing {
                dir: dir.to_path_buf(),
            });
        };
        let built = self.build(&vocab, &path, &merges)?;
        Ok((path, built.to_string().into_bytes()))
    }

    /// A whole `tokenizer.json` around a vocabulary and its merges.
    fn build(&self, vocab: &Value, path: &Path, merges: &str) -> Result<Value, Error> {
        let id = |token: &str| {
            vocab.get(token).cloned().ok_or_else(|| Error::Malformed {
                path: path.to_path_buf(),
                problem: format!("it has no token `{token}`"),
            })
        };
        let mut special: Vec<&String> = Vec::new();
        for token in [&self.start, &self.end, &self.unknown, &self.padding] {
            if !special.contains(&token) {
                special.push(token);
            }
        }
        let mut added = Vec::new();
        for token in special {
            added.push(
                json!({"id": id(token)?, "content": token, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true}),
            );
        }
        let merges: Vec<&str> = merges
            .lines()
            .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
            .collect();
        let part = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
        let named = |token: &str| -> Result<Value, Error> {
            Ok(json!({"id": token, "ids": [id(token)?], "tokens": [token]}))
        };
        let (start, end) = (&self.start, &self.end);
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ]},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                 "use_regex": false},
            ]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [part(start), text, part(end)],
                "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {start: named(start)?, end: named(end)?},
            },
            "decoder": null,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": self.unknown,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>",
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges,
            },
        }))
    }
}

fn json_file(path: &Path) -> Result<Value, Error> {
    serde_json::from_slice(&fsio::read(path)?).map_err(|e| Error::Malformed {
        path: path.to_path_buf(),
        problem: format!("not JSON: {e}"),
    })
}
