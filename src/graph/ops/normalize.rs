//! Normalisations and softmax.

use crate::graph::{DType, Dim, Graph, Op, Result, Value};

impl Graph {
    /// Softmax along `axis`.
    pub fn softmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        if axis >= self.rank(x) || !self.dtype(x).is_float() {
            return Err(self.mismatch(
                "Softmax",
                format!("a float operand with axis {axis}"),
                &[x],
            ));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.push(Op::Softmax { axis }, &[x], self.dtype(x), shape))
    }

    /// Layer normalisation over the last axis: `x` [.., n], `scale` and `bias` `[n]`.
    pub fn layer_norm(
        &mut self,
        x: Value,
        scale: Value,
        bias: Value,
        epsilon: f32,
    ) -> Result<Value> {
        let n = self.shape(x).last().cloned();
        let fits = |v: Value| {
            n.as_ref()
                .is_some_and(|n| self.shape(v) == std::slice::from_ref(n))
        };
        if !fits(scale) || !fits(bias) {
            let expected = "x [.., n], scale [n] and bias [n]";
            return Err(self.mismatch("LayerNormalization", expected, &[x, scale, bias]));
        }
        let axis = self.rank(x) - 1;
        Ok(self.layer_norm_node(x, &[scale, bias], axis, epsilon))
    }

    fn layer_norm_node(&mut self, x: Value, affine: &[Value], axis: usize, epsilon: f32) -> Value {
        let shape = self.shape(x).to_vec();
        let mut statistics = shape.clone();
        statistics[axis] = 1.into();
        let operands: Vec<Value> = std::iter::once(x).chain(affine.iter().copied()).collect();
        let outputs = vec![
            (self.dtype(x), shape),
            (DType::F32, statistics.clone()),
            (DType::F32, statistics),
        ];
        let epsilon = epsilon.into();
        self.push_multi(Op::LayerNormalization { axis, epsilon }, &operands, outputs)[0]
    }

    /// Group normalisation: `x` [B, C, ..], statistics over each of `groups` channel groups and
    /// all positions, `scale` and `bias` `[C]` (torch `GroupNorm`).
    ///
    /// Built as one layer normalisation of [B, groups, rest], whose kernel is a single parallel
    /// pass everywhere, with the channels' scale and bias after it.
    pub fn group_norm(
        &mut self,
        x: Value,
        groups: u64,
        scale: Value,
        bias: Value,
        epsilon: f32,
    ) -> Result<Value> {
        let shape = self.shape(x).to_vec();
        let channels = shape.get(1).and_then(Dim::fixed).unwrap_or(0);
        let affine = [Dim::from(channels)];
        let divides = groups > 0 && channels > 0 && channels.is_multiple_of(groups);
        if !divides || self.shape(scale) != affine || self.shape(bias) != affine {
            let expected =
                format!("x [B, C, ..] with C a multiple of {groups}, scale and bias [C]");
            return Err(self.mismatch("GroupNormalization", expected, &[x, scale, bias]));
        }
        let rest = shape[2..]
            .iter()
            .fold(Dim::from(channels / groups), |a, d| a.times(d));
        let grouped = self.reshape(x, &[shape[0].clone(), groups.into(), rest.clone()])?;
        let one = self.scalar_like(x, 1.0)?;
        let ones = self.expand(one, &[rest])?;
        let normal = self.layer_norm_node(grouped, &[ones], 2, epsilon);
        let normal = self.reshape(normal, &shape)?;
        let scale = self.per_channel(scale, shape.len())?;
        let bias = self.per_channel(bias, shape.len())?;
        let scaled = self.mul(normal, scale)?;
        self.add(scaled, bias)
    }

    /// `[C]` to [C, 1, ..], which broadcasts against [B, C, ..] of the given rank.
    fn per_channel(&mut self, v: Value, rank: usize) -> Result<Value> {
        let mut shape = vec![Dim::from(1_u64); rank - 1];
        shape[0] = self.shape(v)[0].clone();
        self.reshape(v, &shape)
    }

    /// Batch normalisation with fixed statistics: `x` [B, C, ..] and four vectors `[C]`.
    pub fn batch_norm(
        &mut self,
        x: Value,
        scale: Value,
        bias: Value,
        mean: Value,
        variance: Value,
        epsilon: f32,
    ) -> Result<Value> {
        let operands = [x, scale, bias, mean, variance];
        let channels = self.shape(x).get(1).cloned();
        let fits = operands[1..].iter().all(|&v| {
            channels
                .as_ref()
                .is_some_and(|c| self.shape(v) == std::slice::from_ref(c))
        });
        if !fits {
            let expected = "x [B, C, ..] and scale, bias, mean, variance [C]";
            return Err(self.mismatch("BatchNormalization", expected, &operands));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.push(
            Op::BatchNormalization {
                epsilon: epsilon.into(),
            },
            &operands,
            self.dtype(x),
            shape,
        ))
    }
}
