//! Attributes of nodes as the ONNX format has them.

use super::onnx::{AttributeProto, AttributeType};
use super::{Contrib, Conv, Op, Pool, Real};

/// An operation's attributes.
pub(super) fn attributes(op: &Op) -> Vec<AttributeProto> {
    match op {
        Op::Unary(_) | Op::Binary(_) | Op::Where | Op::MatMul | Op::Reshape => vec![],
        Op::Expand | Op::PerSample | Op::GlobalAveragePool => vec![],
        Op::Slice { .. } | Op::Flip { .. } | Op::Pad { .. } => vec![],
        Op::Cast(to) => vec![int("to", i64::from(to.onnx()))],
        Op::Gemm => vec![int("transB", 1)],
        Op::Conv(conv) => conv_attributes(conv),
        Op::ConvTranspose {
            conv,
            output_padding,
        } => {
            let mut attributes = conv_attributes(conv);
            attributes.push(ints("output_padding", output_padding));
            attributes
        }
        Op::Softmax { axis } | Op::Concat { axis } | Op::Gather { axis } => {
            vec![int("axis", *axis as i64)]
        }
        Op::LayerNormalization { axis, epsilon } => {
            vec![int("axis", *axis as i64), float("epsilon", *epsilon)]
        }
        Op::BatchNormalization { epsilon } => vec![float("epsilon", *epsilon)],
        Op::Transpose { perm } => vec![ints("perm", perm)],
        Op::ArgMax { axis } => vec![int("axis", *axis as i64), int("keepdims", 0)],
        Op::ShapeOf { axis } => vec![int("start", *axis as i64), int("end", *axis as i64 + 1)],
        Op::MaxPool(pool) | Op::AveragePool(pool) => pool_attributes(pool),
        Op::Upsample2x | Op::Upsample2xLast => vec![
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ],
        Op::Reduce { keepdims, .. } => vec![int("keepdims", i64::from(*keepdims))],
        Op::Contrib(op) => contrib_attributes(*op),
    }
}

/// A fused operator's attributes.
fn contrib_attributes(op: Contrib) -> Vec<AttributeProto> {
    match op {
        Contrib::GroupNorm {
            groups,
            epsilon,
            silu,
        }
        | Contrib::SkipGroupNorm {
            groups,
            epsilon,
            silu,
        } => vec![
            int("groups", groups as i64),
            float("epsilon", epsilon),
            int("activation", i64::from(silu)),
            int("channels_last", 1),
        ],
        Contrib::NhwcConv(conv) => conv_attributes(&conv),
        Contrib::MultiHeadAttention { heads } => vec![int("num_heads", heads as i64)],
        Contrib::SkipLayerNormalization { epsilon } => vec![float("epsilon", epsilon)],
        Contrib::QuickGelu { alpha } => vec![float("alpha", alpha)],
        Contrib::MatMul { transposed, alpha } => {
            let [a, b] = transposed.map(i64::from);
            vec![int("transA", a), int("transB", b), float("alpha", alpha)]
        }
        Contrib::BiasAdd | Contrib::BiasSplitGelu | Contrib::BiasGelu => vec![],
    }
}

fn conv_attributes(conv: &Conv) -> Vec<AttributeProto> {
    vec![
        ints("strides", &conv.strides),
        ints("pads", &conv.pads),
        int("group", conv.group as i64),
    ]
}

fn pool_attributes(pool: &Pool) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &pool.kernel),
        ints("strides", &pool.strides),
        ints("pads", &pool.pads),
    ]
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: r#type.into(),
        ..AttributeProto::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

fn float(name: &str, value: Real) -> AttributeProto {
    AttributeProto {
        f: Some(value.get()),
        ..attribute(name, AttributeType::Float)
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(value.into()),
        ..attribute(name, AttributeType::String)
    }
}

fn ints<T: Copy + TryInto<i64>>(name: &str, values: &[T]) -> AttributeProto {
    let ints = values
        .iter()
        .map(|&v| v.try_into().unwrap_or(i64::MAX))
        .collect();
    AttributeProto {
        ints,
        ..attribute(name, AttributeType::Ints)
    }
}
