//! What a gradient may compute again instead of keeping it.

/// How much a gradient computes again instead of keeping it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing: the graph gets no gradient, or is small.
    #[default]
    Nothing,
    /// What is large and takes little time: scores of attention, activation functions.
    Cheap,
    /// Whole blocks, and within them scores of attention once more.
    Blocks,
}

/// What a segment of a network is, as far as computing it again goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Layers with weights: most of the time.
    Block,
    /// Attention's scores, their softmax and what it weighs.
    Scores,
    /// Element by element, norms included.
    Activation,
}
