//! TorchScript modules: objects whose attributes are tensors, other modules and numbers.
//!
//! How they are pickled: torch `torch/csrc/jit/serialization/pickler.cpp`. OpenAI's CLIP files are such.

use std::collections::BTreeMap;

use super::{Id, MAX_NAME, MAX_OBJECTS, Machine, Object, TensorInfo};
use crate::tensors::torch::code::{Result, bad};

/// How deep modules may stand in each other, and how many tensors they may hold.
const MAX_DEPTH: usize = 32;
const MAX_TENSORS: usize = 1 << 16;

impl Machine<'_> {
    /// The tensors of a TorchScript module and of the modules in it, by their dotted paths. Other
    /// attributes (numbers, whether it trains) are no tensors.
    pub(super) fn module(&self, root: Id) -> Result<Vec<(String, TensorInfo)>> {
        let mut found: BTreeMap<String, TensorInfo> = BTreeMap::new();
        // A module may stand in several places, so how many are seen has a limit of its own.
        let (mut open, mut seen) = (vec![(String::new(), root, 0)], 0);
        while let Some((path, id, depth)) = open.pop() {
            let Object::Script(Some(attributes)) = self.object(id) else {
                continue;
            };
            for &(name, value) in self.dict(*attributes)? {
                seen += 1;
                if seen > MAX_OBJECTS || depth > MAX_DEPTH || found.len() > MAX_TENSORS {
                    return bad("modules that stand in each other too often");
                }
                let Object::Text(name) = self.object(name) else {
                    return bad("an attribute without a name");
                };
                let inner = match path.as_str() {
                    _ if path.len() + name.len() > MAX_NAME => {
                        return bad("a name longer than any of torch's");
                    }
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                match self.object(value) {
                    Object::Script(_) => open.push((inner, value, depth + 1)),
                    Object::Tensor(_) if found.contains_key(&inner) => {
                        return bad(format!("it names `{inner}` twice"));
                    }
                    Object::Tensor(info) => {
                        found.insert(inner, info.as_ref().clone());
                    }
                    _ => {}
                }
            }
        }
        Ok(found.into_iter().collect())
    }
}
