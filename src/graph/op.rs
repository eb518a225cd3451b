//! The operations a graph is made of: ONNX operators with typed attributes.

use std::fmt;

use crate::base::DType;

/// Operations of one operand, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the ONNX operator of that name")]
pub enum Unary {
    Neg,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Sigmoid,
    Tanh,
    Relu,
    Erf,
    Sin,
    Cos,
    Not,
    /// Exact (erf) GELU.
    Gelu,
    Identity,
}

impl Unary {
    /// Name of the operator.
    fn name(self) -> &'static str {
        match self {
            Self::Neg => "Neg",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Relu => "Relu",
            Self::Erf => "Erf",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Not => "Not",
            Self::Gelu => "Gelu",
            Self::Identity => "Identity",
        }
    }
}

/// Operations of two operands that broadcast as numpy's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the ONNX operator of that name")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
    Equal,
    Greater,
    Less,
    And,
}

impl Binary {
    /// Name of the operator.
    fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Equal => "Equal",
            Self::Greater => "Greater",
            Self::Less => "Less",
            Self::And => "And",
        }
    }

    pub(super) fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Greater | Self::Less | Self::And)
    }
}

/// Reductions over axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the ONNX operator of that name")]
pub enum Reduction {
    ReduceSum,
    ReduceMean,
    ReduceMax,
}

impl Reduction {
    /// Name of the operator.
    fn name(self) -> &'static str {
        match self {
            Self::ReduceSum => "ReduceSum",
            Self::ReduceMean => "ReduceMean",
            Self::ReduceMax => "ReduceMax",
        }
    }
}

/// What the runtime of a graph that is made for one job has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operators {
    /// ONNX's own: TensorRT, and whoever else reads ONNX.
    Standard,
    /// And products of transposed operands: ONNX Runtime's CPU provider.
    Products,
    /// And its fused operators for CUDA.
    Cuda,
}

/// Geometry of a two-dimensional convolution; pads are top, left, bottom, right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Step per axis.
    pub strides: [u64; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [u64; 4],
    /// Channel groups.
    pub group: u64,
}

impl Conv {
    /// Stride and symmetric padding alike on both axes, one group.
    pub fn new(stride: u64, pad: u64) -> Self {
        Self {
            strides: [stride; 2],
            pads: [pad; 4],
            group: 1,
        }
    }
}

/// A pooling window; pads are top, left, bottom, right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Window size.
    pub kernel: [u64; 2],
    /// Step per axis.
    pub strides: [u64; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [u64; 4],
}

impl Pool {
    /// Kernel, stride and padding alike on both axes.
    pub fn new(kernel: u64, stride: u64, pad: u64) -> Self {
        Self {
            kernel: [kernel; 2],
            strides: [stride; 2],
            pads: [pad; 4],
        }
    }
}

/// An attribute that is a number: equal to another, and hashed, by its bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Real(u32);

impl Real {
    /// The number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl From<f32> for Real {
    fn from(number: f32) -> Self {
        Self(number.to_bits())
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// An operation with its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is the ONNX operator of that name unless said otherwise"
)]
pub enum Op {
    Unary(Unary),
    Binary(Binary),
    Where,
    Cast(DType),
    MatMul,
    /// `a · bᵀ` of matrices, and `+ c` where there is one.
    Gemm,
    Conv(Conv),
    ConvTranspose {
        conv: Conv,
        output_padding: [u64; 2],
    },
    Softmax {
        axis: usize,
    },
    /// Outputs: y, mean, inverse standard deviation.
    LayerNormalization {
        axis: usize,
        epsilon: Real,
    },
    BatchNormalization {
        epsilon: Real,
    },
    Reshape,
    Transpose {
        perm: Vec<usize>,
    },
    Concat {
        axis: usize,
    },
    /// Elements `start..end` of one axis.
    Slice {
        axis: usize,
        start: u64,
        end: u64,
    },
    /// Reverses the order along the axes.
    Flip {
        axes: Vec<usize>,
    },
    Expand,
    /// Nearest-neighbour doubling of the last two axes.
    Upsample2x,
    /// The same of [B, H, W, C].
    Upsample2xLast,
    /// Zeros before and after on each axis.
    Pad {
        before: Vec<u64>,
        after: Vec<u64>,
    },
    Gather {
        axis: usize,
    },
    ArgMax {
        axis: usize,
    },
    /// One dimension of the operand, as an i64 scalar in a one-element vector.
    ShapeOf {
        axis: usize,
    },
    Reduce {
        kind: Reduction,
        axes: Vec<usize>,
        keepdims: bool,
    },
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    /// Not an ONNX operator: gives a parameter a leading batch axis, so that its gradient comes
    /// out per sample. Lowered to nothing where the consumer broadcasts, else to Expand.
    PerSample,
    /// One of ONNX Runtime's own operators.
    Contrib(Contrib),
}

/// Fused operators of the domain `com.microsoft`, which only ONNX Runtime has. Pictures have their
/// channels last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is the operator of that name in onnxruntime/docs/ContribOperators.md"
)]
pub enum Contrib {
    /// x [B, H, W, C], gamma and beta `[C]` f32.
    GroupNorm {
        groups: u64,
        epsilon: Real,
        silu: bool,
    },
    /// x, gamma, beta, skip [B, H, W, C] or [B, 1, 1, C]; outputs: y, x + skip.
    SkipGroupNorm {
        groups: u64,
        epsilon: Real,
        silu: bool,
    },
    /// x [B, H, W, C], weight [out, kH, kW, C], bias.
    NhwcConv(Conv),
    /// query [B, N, C], key and value [B, M, C], and an attention bias [1, 1, N, M] or none.
    MultiHeadAttention {
        heads: u64,
    },
    /// x, skip, gamma, beta, and a bias or none; outputs: y, x + bias + skip.
    SkipLayerNormalization {
        epsilon: Real,
    },
    /// x [B, N, C], bias `[C]`, skip.
    BiasAdd,
    /// x [B, N, 2C], bias `[2C]`: the first half times the GELU of the second.
    BiasSplitGelu,
    /// GELU of x + bias.
    BiasGelu,
    QuickGelu {
        alpha: Real,
    },
    /// FusedMatMul: `alpha · a · b`, each with its last two axes swapped or not. ONNX Runtime's CPU provider has
    /// it too.
    MatMul {
        transposed: [bool; 2],
        alpha: Real,
    },
}

impl Contrib {
    /// Name of the operator.
    fn name(self) -> &'static str {
        match self {
            Self::GroupNorm { .. } => "GroupNorm",
            Self::SkipGroupNorm { .. } => "SkipGroupNorm",
            Self::NhwcConv(_) => "NhwcConv",
            Self::MultiHeadAttention { .. } => "MultiHeadAttention",
            Self::SkipLayerNormalization { .. } => "SkipLayerNormalization",
            Self::BiasAdd => "BiasAdd",
            Self::BiasSplitGelu => "BiasSplitGelu",
            Self::BiasGelu => "BiasGelu",
            Self::QuickGelu { .. } => "QuickGelu",
            Self::MatMul { .. } => "FusedMatMul",
        }
    }
}

impl Op {
    /// Name of the ONNX operator it is written as.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unary(op) => op.name(),
            Self::Binary(op) => op.name(),
            Self::Where => "Where",
            Self::Cast(_) => "Cast",
            Self::MatMul => "MatMul",
            Self::Gemm => "Gemm",
            Self::Conv(_) => "Conv",
            Self::ConvTranspose { .. } => "ConvTranspose",
            Self::Softmax { .. } => "Softmax",
            Self::LayerNormalization { .. } => "LayerNormalization",
            Self::BatchNormalization { .. } => "BatchNormalization",
            Self::Reshape => "Reshape",
            Self::Transpose { .. } => "Transpose",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } | Self::Flip { .. } => "Slice",
            Self::Expand | Self::PerSample => "Expand",
            Self::Upsample2x | Self::Upsample2xLast => "Resize",
            Self::Pad { .. } => "Pad",
            Self::Gather { .. } => "Gather",
            Self::ArgMax { .. } => "ArgMax",
            Self::ShapeOf { .. } => "Shape",
            Self::Reduce { kind, .. } => kind.name(),
            Self::MaxPool(_) => "MaxPool",
            Self::AveragePool(_) => "AveragePool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Contrib(op) => op.name(),
        }
    }
}
