//! Attributes of nodes as the ONNX format has them.

use super::onnx::{AttributeProto, AttributeType};
use super::{Contrib, Conv, Pool, Real};

/// A fused operator's attributes; operands that it doesn't get are added to `input` as absent.
pub(super) fn contrib_attributes(op: Contrib, input: &mut Vec<String>) -> Vec<AttributeProto> {
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
        Contrib::MultiHeadAttention { heads } => {
            if input.len() == 4 {
                // Before the attention bias come the projections' bias and the padding mask.
                input.splice(3..3, [String::new(), String::new()]);
            }
            vec![int("num_heads", heads as i64)]
        }
        Contrib::SkipLayerNormalization { epsilon } => vec![float("epsilon", epsilon)],
        Contrib::QuickGelu { alpha } => vec![float("alpha", alpha)],
        Contrib::BiasAdd | Contrib::BiasSplitGelu | Contrib::BiasGelu => vec![],
    }
}

pub(super) fn conv_attributes(conv: &Conv) -> Vec<AttributeProto> {
    vec![
        ints("strides", &conv.strides),
        ints("pads", &conv.pads),
        int("group", conv.group as i64),
    ]
}

pub(super) fn pool_attributes(pool: &Pool) -> Vec<AttributeProto> {
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

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

pub(super) fn float(name: &str, value: Real) -> AttributeProto {
    AttributeProto {
        f: Some(value.get()),
        ..attribute(name, AttributeType::Float)
    }
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: Some(value.into()),
        ..attribute(name, AttributeType::String)
    }
}

pub(super) fn ints<T: Copy + TryInto<i64>>(name: &str, values: &[T]) -> AttributeProto {
    let ints = values
        .iter()
        .map(|&v| v.try_into().unwrap_or(i64::MAX))
        .collect();
    AttributeProto {
        ints,
        ..attribute(name, AttributeType::Ints)
    }
}
