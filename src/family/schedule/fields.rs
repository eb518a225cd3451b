//! The keys of a scheduler's configuration, taken one by one: what is left was not understood.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Error, Result};
use crate::base::values::Number;
use crate::base::{Values, json};

/// The keys of a configuration that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Fields {
    /// The keys of a configuration; `path` is for messages.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let quoted = json::python_words_quoted(bytes);
        let fields = json::parse(&quoted, path, "a scheduler configuration")?;
        let path = path.to_path_buf();
        let mut all = Self { path, fields };
        // A scheduler's own note of what nobody had said: other classes take their own defaults.
        if let Some(Value::Array(unsaid)) = all.fields.remove("_use_default_values") {
            for key in unsaid.iter().filter_map(Value::as_str) {
                all.fields.remove(key);
            }
        }
        Ok(all)
    }

    /// A key that has a value that isn't supported.
    pub(super) fn bad(&self, key: &str, value: &Value, supported: impl Display) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            key: key.to_owned(),
            value: match value {
                Value::String(text) => text.clone(),
                Value::Array(all) => format!("a list of {}", all.len()),
                Value::Object(_) => "an object".to_owned(),
                other => other.to_string(),
            },
            supported: supported.to_string(),
        }
    }

    /// Takes a key's value. A null is what diffusers writes where nobody said anything.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    /// A truth; a null is none.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        Ok(self.said(key)?.unwrap_or(default))
    }

    /// The same, if the file says it.
    pub(super) fn said(&mut self, key: &str) -> Result<Option<bool>> {
        match self.fields.remove(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(false)),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(self.bad(key, &other, "true, false")),
        }
    }

    /// A number.
    pub(super) fn number<T: Number>(&mut self, key: &str, values: Values<T>) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let number = value.is_number().then(|| value.to_string());
        let number = number.and_then(|text| text.parse().ok());
        match number.filter(|&number| values.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(key, &value, values)),
        }
    }

    /// One of some words, for what it stands for.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| value == *word) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(self.bad(key, &value, words.join(", ")))
            }
        }
    }

    /// Refuses what nobody took: a key that isn't understood may be one that changes every number.
    pub(super) fn finish(self) -> Result<()> {
        let private = |key: &String| key.starts_with('_');
        match self.fields.keys().filter(|key| !private(key)).min() {
            None => Ok(()),
            Some(key) => Err(Error::Key {
                path: self.path.clone(),
                key: key.clone(),
                value: self.fields[key].to_string(),
            }),
        }
    }
}
