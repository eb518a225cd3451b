//! The tensors of one network, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Error, Result, Tensor};

/// The tensors of one network, in one or more files.
#[derive(Debug)]
pub struct Weights {
    pub(super) files: Vec<Arc<Path>>,
    pub(super) tensors: BTreeMap<String, Entry>,
}

/// A tensor, and whether somebody asked for it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tensor: Tensor,
    used: AtomicBool,
}

impl Weights {
    /// Tensors found by other means, in files that are already known.
    ///
    /// # Errors
    /// [`Error::Duplicate`] for a name that comes twice.
    pub(crate) fn from_tensors(
        files: Vec<Arc<Path>>,
        found: impl IntoIterator<Item = Tensor>,
    ) -> Result<Self> {
        let mut tensors: BTreeMap<String, Entry> = BTreeMap::new();
        for tensor in found {
            insert(&mut tensors, tensor)?;
        }
        Ok(Self { files, tensors })
    }

    /// Forgets the files that no floating-point tensor lies in.
    pub(super) fn let_go(&mut self) {
        let tensors = &self.tensors;
        self.files.retain(|file| {
            let inside = |e: &Entry| e.tensor.file == *file && e.tensor.dtype.is_float();
            tensors.values().any(inside)
        });
    }

    /// The files, in the order they were read.
    pub fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor> + Clone {
        self.tensors.values().map(|e| &e.tensor)
    }

    /// A tensor by its full name, whatever its shape.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let entry = self.tensors.get(name)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(&entry.tensor)
    }

    /// The first name that begins with `prefix`.
    pub(crate) fn first_with(&self, prefix: &str) -> Option<&str> {
        let mut after = self
            .tensors
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let (name, _) = after.next()?;
        name.starts_with(prefix).then_some(name)
    }

    /// Total number of elements of all floating-point tensors.
    pub fn parameters(&self) -> u64 {
        let float = |t: &&Tensor| t.dtype.is_float();
        self.iter().filter(float).map(Tensor::elements).sum()
    }

    /// Names that nobody has asked for: after building a network, what it did not understand.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self
            .tensors
            .iter()
            .filter(|(_, e)| !e.used.load(Ordering::Relaxed));
        unused.map(|(name, _)| name.as_str()).collect()
    }

    /// A view of the names under `prefix` (empty for all; without a trailing dot).
    pub fn scope(&self, prefix: &str) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: prefix.to_owned(),
        }
    }
}

impl From<Tensor> for Entry {
    fn from(tensor: Tensor) -> Self {
        Entry {
            tensor,
            used: false.into(),
        }
    }
}

/// Adds a tensor.
///
/// # Errors
/// [`Error::Duplicate`].
pub(super) fn insert(tensors: &mut BTreeMap<String, Entry>, tensor: Tensor) -> Result<()> {
    if let Some(first) = tensors.get(&tensor.name) {
        return Err(Error::Duplicate {
            key: tensor.name,
            first: first.tensor.file.to_path_buf(),
            second: tensor.file.to_path_buf(),
        });
    }
    tensors.insert(tensor.name.clone(), tensor.into());
    Ok(())
}

/// A view of the tensors under one dotted prefix, as candle's `VarBuilder`.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Scope<'a> {
    /// The scope one step further down: `scope.pp("down_blocks.0")`.
    pub fn pp(&self, name: impl fmt::Display) -> Scope<'a> {
        Scope {
            weights: self.weights,
            prefix: self.full(&name.to_string()),
        }
    }

    /// The prefix, without a trailing dot.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// The weights this is a view of.
    pub fn weights(&self) -> &'a Weights {
        self.weights
    }

    /// Whether `name` exists here, whatever its shape.
    pub fn contains(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(&self.full(name))
    }

    /// Whether any tensor lies under `name.`.
    pub fn contains_scope(&self, name: &str) -> bool {
        let prefix = format!("{}.", self.full(name));
        let mut after = self.weights.tensors.range(prefix.clone()..);
        after.next().is_some_and(|(k, _)| k.starts_with(&prefix))
    }

    /// The tensor `name`, which must have exactly this shape.
    pub fn get(&self, name: &str, shape: &[u64]) -> Result<Tensor> {
        let key = self.full(name);
        let Some(tensor) = self.weights.tensor(&key) else {
            return Err(Error::Missing {
                key,
                expected: shape.to_vec(),
                files: self.weights.files.iter().map(|f| f.to_path_buf()).collect(),
            });
        };
        if tensor.shape != shape {
            return Err(Error::Shape {
                key,
                file: tensor.file.to_path_buf(),
                expected: shape.to_vec(),
                found: tensor.shape.clone(),
            });
        }
        Ok(tensor.clone())
    }

    fn full(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        }
    }
}
