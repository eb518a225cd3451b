//! Settings of PEFT's configuration as typed values.

use std::path::Path;

use serde_json::Value;

use super::pattern::Pattern;
use super::{Error, Result};

/// One network's settings, and the file that they stand in.
pub(super) struct Settings<'a> {
    pub(super) own: Vec<(&'a str, &'a Value)>,
    pub(super) file: &'a Path,
}

impl Settings<'_> {
    /// A setting; nothing where it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let (_, value) = self.own.iter().find(|(name, _)| *name == key)?;
        (!value.is_null()).then_some(*value)
    }

    /// A setting that isn't what it must be.
    pub(super) fn bad(&self, key: &str, problem: impl Into<String>) -> Error {
        bad(self.file, key, problem)
    }

    /// A setting as `read` takes it.
    pub(super) fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = |v: &Value| {
            read(v).ok_or_else(|| self.bad(key, format!("is {v}, expected {expected}")))
        };
        self.get(key).map(value).transpose()
    }

    /// A mapping of expressions, in the order that PEFT tries them.
    pub(super) fn patterns<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<(Pattern, T)>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let entries = value.as_object();
        let entries = entries
            .ok_or_else(|| self.bad(key, format!("is {value}, expected names and numbers")))?;
        let entry = |(name, value): (&String, &Value)| {
            let pattern = Pattern::key(name).map_err(|problem| {
                self.bad(key, format!("has the expression `{name}`: {problem}"))
            })?;
            let value = read(value).ok_or_else(|| {
                self.bad(
                    key,
                    format!("has {value} for `{name}`, expected {expected}"),
                )
            })?;
            Ok((pattern, value))
        };
        entries.iter().map(entry).collect()
    }
}

/// A setting of `file` that isn't what it must be.
pub(super) fn bad(file: &Path, key: &str, problem: impl Into<String>) -> Error {
    Error::Setting {
        file: file.to_path_buf(),
        key: key.to_owned(),
        problem: problem.into(),
    }
}
