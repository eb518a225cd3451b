//! Multi-head attention, as plain matrix products.
//!
//! Runtimes recognise MatMul, Softmax, MatMul between transpositions and fuse it; the queries are
//! scaled instead of the (much larger) scores. The softmax is computed in f32 whatever the network
//! computes in: its sum runs over all positions.
//!
//! Where nothing is fused, the scores [B, heads, N, M] are the largest tensors of an image network.
//! With a limit to their size the heads are cut into groups, and if one head is still too much its
//! queries too, which changes neither results nor, much, the time. Each group is a part that a
//! checkpointed gradient computes again.

use super::{Error, Result};
use crate::graph::{DType, Dim, Graph, Segment, Value};

/// `softmax(q kᵀ / √d + mask) v` for `heads` heads: `q` [B, N, C], `k` and `v` [B, M, C], `mask`
/// broadcasting to [B, heads, N, M]; result [B, N, C]. The caller has checked that C divides.
///
/// Without a mask, no matrix of scores takes more than `limit` bytes at the planned sizes.
pub(super) fn attention(
    g: &mut Graph,
    [mut q, k, v]: [Value; 3],
    heads: u64,
    mask: Option<Value>,
    limit: Option<u64>,
) -> Result<Value> {
    let shape = g.shape(q).to_vec();
    let channels = shape[2].fixed().unwrap_or(0);
    let cuts = match (limit, mask) {
        (Some(limit), None) => Cuts::within(g, limit, [q, k], heads),
        _ => Cuts::NONE,
    };
    let mut scale = Some(((channels / heads) as f32).sqrt().recip());
    // A product multiplies its result in passing, where it can.
    if let Some(scale) = scale.take_if(|_| !g.has_products()) {
        q = g.scale(q, scale)?;
    }
    let q = split_heads(g, q, heads)?;
    let k = split_heads(g, k, heads)?;
    let v = split_heads(g, v, heads)?;
    let k = g.transpose(k, &[0, 1, 3, 2])?;
    let mixed = in_groups(g, cuts.heads, 1, [q, k, v], |g, [q, k, v]| {
        in_query_parts(g, cuts.queries, q, |g, q| {
            g.checkpointed(Segment::Scores, |g| mix(g, [q, k, v], scale, mask))
        })
    })?;
    let joined = g.transpose(mixed, &[0, 2, 1, 3])?;
    Ok(g.reshape(joined, &shape)?)
}

/// `softmax(scale · q k + mask) v` of [B, heads, N, d], [B, heads, d, M] and [B, heads, M, d].
fn mix(
    g: &mut Graph,
    [q, k, v]: [Value; 3],
    scale: Option<f32>,
    mask: Option<Value>,
) -> Result<Value> {
    let mut scores = g.matmul(q, k)?;
    if let Some(scale) = scale {
        scores = g.scale(scores, scale)?;
    }
    if let Some(mask) = mask {
        scores = g.add(scores, mask)?;
    }
    let compute = g.dtype(scores);
    let scores = g.cast(scores, DType::F32)?;
    let weights = g.softmax(scores, 3)?;
    let weights = g.cast(weights, compute)?;
    Ok(g.matmul(weights, v)?)
}

/// Into how many parts attention is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cuts {
    heads: u64,
    queries: u64,
}

impl Cuts {
    const NONE: Self = Self {
        heads: 1,
        queries: 1,
    };

    /// The fewest parts whose scores fit; as many as there can be if none do.
    fn within(g: &Graph, limit: u64, [q, k]: [Value; 2], heads: u64) -> Self {
        let [batch, queries, _] = g.shape(q) else {
            return Self::NONE;
        };
        let size = |d: &Dim| g.planned(d).unwrap_or(1);
        let one_head = size(batch) * size(queries) * size(&g.shape(k)[1]) * DType::F32.size();
        let groups = (1..=heads).filter(|n| heads.is_multiple_of(*n));
        let fits = |n: &u64| one_head * (heads / n) <= limit;
        let heads_cut = groups.clone().find(fits).unwrap_or(heads);
        let rest = one_head * (heads / heads_cut);
        let halvings = (0..u64::BITS)
            .map(|e| 1_u64 << e)
            .take_while(|&n| g.part_of(queries, n).is_some());
        // Cutting further than the limit asks for costs time and saves nothing.
        let mut queries_cut = 1;
        for n in halvings {
            queries_cut = n;
            if rest / n <= limit {
                break;
            }
        }
        Self {
            heads: heads_cut,
            queries: queries_cut,
        }
    }
}

/// Applies `body` to equal parts of an axis and joins what comes out.
fn in_groups<const N: usize>(
    g: &mut Graph,
    parts: u64,
    axis: usize,
    operands: [Value; N],
    mut body: impl FnMut(&mut Graph, [Value; N]) -> Result<Value>,
) -> Result<Value> {
    // Group by group: the operands' parts.
    let mut groups = vec![operands; parts as usize];
    for (i, operand) in operands.into_iter().enumerate() {
        for (group, part) in groups.iter_mut().zip(g.chunk(operand, axis, parts)?) {
            group[i] = part;
        }
    }
    let mut results = Vec::with_capacity(groups.len());
    for group in groups {
        results.push(body(g, group)?);
    }
    Ok(g.concat(&results, axis)?)
}

/// Applies `body` to equal parts of the queries [B, heads, N, d] and joins what comes out. N may
/// be a size known only at run time, so the parts are an axis of their own.
fn in_query_parts(
    g: &mut Graph,
    parts: u64,
    q: Value,
    mut body: impl FnMut(&mut Graph, Value) -> Result<Value>,
) -> Result<Value> {
    if parts == 1 {
        return body(g, q);
    }
    let shape = g.shape(q).to_vec();
    let part = g
        .part_of(&shape[2], parts)
        .ok_or_else(|| Error::Inconsistent {
            network: "attention",
            key: "queries",
            problem: format!("they don't divide into {parts} parts"),
        })?;
    let [batch, heads, _, width] = &shape[..] else {
        return body(g, q);
    };
    let one = [batch.clone(), heads.clone(), part.clone(), width.clone()];
    let cut = [
        batch.clone(),
        heads.clone(),
        parts.into(),
        part,
        width.clone(),
    ];
    let single = {
        let mut cut = cut.clone();
        cut[2] = 1.into();
        cut
    };
    let cut = g.reshape(q, &cut)?;
    let mixed = in_groups(g, parts, 2, [cut], |g, [q]| {
        let q = g.reshape(q, &one)?;
        let mixed = body(g, q)?;
        Ok(g.reshape(mixed, &single)?)
    })?;
    Ok(g.reshape(mixed, &shape)?)
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
