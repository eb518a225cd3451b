//! Reading the libraries' `config.json` files.
//!
//! The libraries' configurations have many switches that no model of the supported families uses.
//! They are not ignored: a value other than the supported one is an error that names the key, so a
//! model that needs a missing feature is refused instead of exported wrongly.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Error, Result};

/// A configuration struct that knows what it supports.
pub trait Config: DeserializeOwned {
    /// The Python class, for messages.
    const NETWORK: &'static str;

    /// Keys that are not fields of the struct, with the JSON text of the values that may be there
    /// (the first is the library's default).
    const FIXED: &'static [(&'static str, &'static [&'static str])] = &[];

    /// Refuses values and combinations that can't be built.
    fn check(&self) -> Result<()>;

    /// Parses and checks the object of a `config.json`.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::Inconsistent`] or [`Error::Malformed`], naming the key.
    fn from_json(json: &Json) -> Result<Self> {
        if let Json::Object(object) = json {
            refuse_unsupported(Self::NETWORK, Self::FIXED, object)?;
        }
        let config: Self =
            serde_json::from_value(json.clone()).map_err(|source| Error::Malformed {
                network: Self::NETWORK,
                source,
            })?;
        config.check()?;
        Ok(config)
    }

    /// An [`Error::Unsupported`] of this network.
    fn unsupported(key: &str, value: impl ToString, supported: &str) -> Error {
        Error::Unsupported {
            network: Self::NETWORK,
            key: key.to_owned(),
            value: value.to_string(),
            supported: supported.to_owned(),
        }
    }

    /// An [`Error::Inconsistent`] of this network unless `holds`.
    fn require(holds: bool, key: &'static str, problem: impl FnOnce() -> String) -> Result<()> {
        if holds {
            Ok(())
        } else {
            Err(Error::Inconsistent {
                network: Self::NETWORK,
                key,
                problem: problem(),
            })
        }
    }
}

/// Reads and checks a `config.json`.
///
/// # Errors
/// The file can't be read or is not JSON, or what [`Config::from_json`] refuses.
pub fn read_config<T: Config>(path: &Path) -> Result<T> {
    let text = crate::base::fsio::read(path)?;
    let json = serde_json::from_slice(&text).map_err(|source| Error::NotJson {
        path: path.to_path_buf(),
        source,
    })?;
    T::from_json(&json)
}

fn refuse_unsupported(
    network: &'static str,
    fixed: &[(&str, &[&str])],
    object: &Map<String, Json>,
) -> Result<()> {
    for (key, allowed) in fixed {
        let Some(value) = object.get(*key) else {
            continue;
        };
        if !allowed.iter().any(|text| same(value, text)) {
            return Err(Error::Unsupported {
                network,
                key: (*key).to_owned(),
                value: value.to_string(),
                supported: allowed.join(", "),
            });
        }
    }
    Ok(())
}

/// Whether a JSON value is the one written as `text`; 1 and 1.0 are the same number, and a list is
/// the same if all its items are (configurations repeat a switch per block).
fn same(value: &Json, text: &str) -> bool {
    match value {
        Json::Array(items) => items.iter().all(|item| same(item, text)),
        Json::Number(number) => number.as_f64().is_some() && number.as_f64() == text.parse().ok(),
        Json::Null => text == "null",
        Json::Bool(truth) => text == if *truth { "true" } else { "false" },
        Json::String(value) => text.trim_matches('"') == value,
        Json::Object(_) => false,
    }
}

/// One value for every block, or one value per block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum PerBlock<T> {
    /// The same everywhere.
    One(T),
    /// One per block, outermost first.
    Each(Vec<T>),
}

impl<T: Copy> PerBlock<T> {
    /// The value of block `index`; callers have checked the length.
    pub fn at(&self, index: usize) -> T {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values[index],
        }
    }

    /// Whether there is a value for each of `blocks` blocks.
    pub fn covers(&self, blocks: usize) -> bool {
        match self {
            Self::One(_) => true,
            Self::Each(values) => values.len() == blocks,
        }
    }
}

/// `true`, for serde defaults.
pub(super) fn yes() -> bool {
    true
}
