//! Which operations ONNX Runtime's CUDA provider has kernels for.
//!
//! A node without one runs on the CPU, where ONNX Runtime lets it: copies back and forth at each run, no
//! replaying, and a planner that takes minutes for a graph on two devices. What CUDA can't run is named here
//! instead, before anything is loaded.

use std::fmt;

use crate::graph::builder::Node;
use crate::graph::{DType, Graph, Op};

/// The table, as ONNX Runtime documents it.
const TABLE: &str = include_str!("kernels.txt");

/// An operation that CUDA has no kernel for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The operator.
    pub operator: &'static str,
    /// Where in the network.
    pub node: String,
    /// The type it would compute in.
    pub dtype: DType,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operator,
            node,
            dtype,
        } = self;
        write!(f, "{operator} in {} (node `{node}`)", dtype.short_name())
    }
}

impl Graph {
    /// The first operation that ONNX Runtime's CUDA provider has no kernel for in its type.
    pub fn lacks_on_cuda(&self) -> Option<Lack> {
        let opset = self.opset_version();
        let lack = |node: &Node| {
            let dtype = self.dtype(*node.inputs.iter().find(|v| self.counts(node, **v))?);
            let operator = node.op.name();
            (!has_kernel(operator, dtype, opset)).then(|| Lack {
                operator,
                node: node.scope.to_string(),
                dtype,
            })
        };
        self.nodes.iter().find_map(lack)
    }

    /// Whether an operand's type is the operator's: a condition's isn't.
    fn counts(&self, node: &Node, operand: crate::graph::Value) -> bool {
        node.op != Op::Where || self.dtype(operand) != DType::Bool
    }
}

/// Whether the table has a kernel: in the newest entry that the operator set reaches.
fn has_kernel(operator: &str, dtype: DType, opset: i64) -> bool {
    let dtype = match dtype {
        DType::F32 => "float",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F64 => "double",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::Bool => "bool",
        _ => return false,
    };
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    let entries = rows.filter_map(|line| {
        let mut words = line.split(' ');
        let of_operator = words.next()? == operator;
        let since: i64 = words.next()?.parse().ok()?;
        (of_operator && since <= opset).then_some((since, words))
    });
    let newest = entries.max_by_key(|(since, _)| *since);
    newest.is_some_and(|(_, mut types)| types.any(|word| word == dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_that_the_operator_set_reaches_counts() {
        assert!(has_kernel("Conv", DType::F16, 20));
        assert!(!has_kernel("Conv", DType::BF16, 20));
        assert!(has_kernel("Conv", DType::BF16, 22));
        assert!(!has_kernel("Gelu", DType::F32, 19));
        assert!(!has_kernel("Resize", DType::BF16, 22));
        assert!(!has_kernel("Einsum", DType::F32, 22));
    }
}
