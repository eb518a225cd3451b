//! What can be wrong with a graph while it is built.

/// Result of building a graph.
pub type Result<T> = std::result::Result<T, Error>;

/// A graph that can't be built. `at` is the scope path of the op, as in the checkpoint's keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An operand doesn't fit the operation.
    #[error("{op} at `{at}`: expected {expected}, got {got}")]
    Operand {
        /// ONNX name of the operation.
        op: &'static str,
        /// Where in the network.
        at: String,
        /// What would fit.
        expected: String,
        /// What was given.
        got: String,
    },
    /// An operation has no gradient with respect to an operand that needs one.
    #[error("{op} at `{at}` has no gradient rule for operand {operand}")]
    NoGradient {
        /// ONNX name of the operation.
        op: &'static str,
        /// Where in the network.
        at: String,
        /// Index of the operand.
        operand: usize,
    },
    /// Two inputs or outputs of one graph share a name.
    #[error("the graph already has an input or output named `{0}`")]
    Duplicate(String),
}
