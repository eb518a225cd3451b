//! Multi-head attention, as plain matrix products.
//!
//! Runtimes recognise MatMul, Softmax, MatMul between transpositions and fuse it; the queries are
//! scaled instead of the (much larger) scores. The softmax is computed in f32 whatever the network
//! computes in: its sum runs over all positions.

use super::Result;
use crate::graph::{DType, Dim, Graph, Value};

/// `softmax(q kᵀ / √d + mask) v` for `heads` heads: `q` [B, N, C], `k` and `v` [B, M, C], `mask`
/// broadcasting to [B, heads, N, M]; result [B, N, C]. The caller has checked that C divides.
pub(super) fn attention(
    g: &mut Graph,
    [q, k, v]: [Value; 3],
    heads: u64,
    mask: Option<Value>,
) -> Result<Value> {
    let shape = g.shape(q).to_vec();
    let channels = shape[2].fixed().unwrap_or(0);
    let q = g.scale(q, ((channels / heads) as f32).sqrt().recip())?;
    let q = split_heads(g, q, heads)?;
    let k = split_heads(g, k, heads)?;
    let v = split_heads(g, v, heads)?;
    let k = g.transpose(k, &[0, 1, 3, 2])?;
    let mut scores = g.matmul(q, k)?;
    if let Some(mask) = mask {
        scores = g.add(scores, mask)?;
    }
    let compute = g.dtype(scores);
    let scores = g.cast(scores, DType::F32)?;
    let weights = g.softmax(scores, 3)?;
    let weights = g.cast(weights, compute)?;
    let mixed = g.matmul(weights, v)?;
    let joined = g.transpose(mixed, &[0, 2, 1, 3])?;
    Ok(g.reshape(joined, &shape)?)
}

/// [B, N, heads·d] to [B, heads, N, d].
fn split_heads(g: &mut Graph, x: Value, heads: u64) -> Result<Value> {
    let shape = g.shape(x).to_vec();
    let width = Dim::from(shape[2].fixed().unwrap_or(0) / heads);
    let split = g.reshape(
        x,
        &[shape[0].clone(), shape[1].clone(), heads.into(), width],
    )?;
    Ok(g.transpose(split, &[0, 2, 1, 3])?)
}
