//! Operations that move elements: reshape, transpose, slice, gather, reduce …

use super::elementwise::broadcast_shapes;
use crate::graph::dim::ShapeText;
use crate::graph::{DType, Dim, Graph, Op, Reduction, Result, Value};

impl Graph {
    /// Gives `x` another shape of equally many elements.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Result<Value> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let count = |dims: &[Dim]| dims.iter().fold(Dim::from(1_u64), |a, d| a.times(d));
        if count(self.shape(x)) != count(shape) {
            let expected = format!("as many elements as {}", ShapeText(shape, &self.symbols));
            return Err(self.mismatch("Reshape", expected, &[x]));
        }
        let target = self.reshape_target(x, shape)?;
        Ok(self.push(Op::Reshape, &[x, target], self.dtype(x), shape.to_vec()))
    }

    /// The shape operand that reshapes `x` to `shape`.
    pub(in crate::graph) fn reshape_target(&mut self, x: Value, shape: &[Dim]) -> Result<Value> {
        let dims = self.shape(x).to_vec();
        let mut inferred = false;
        let mut parts = Vec::with_capacity(shape.len());
        for (axis, dim) in shape.iter().enumerate() {
            parts.push(if let Some(n) = dim.fixed() {
                Part::Fixed(n as i64)
            } else if dims.get(axis) == Some(dim) {
                // Reshape copies the operand's dimension where the shape holds 0.
                Part::Fixed(0)
            } else if !inferred {
                inferred = true;
                Part::Fixed(-1)
            } else {
                Part::Computed(dim.clone())
            });
        }
        self.shape_vector(parts)
    }

    /// Repeats `x` to a larger shape it broadcasts to.
    pub fn expand(&mut self, x: Value, shape: &[Dim]) -> Result<Value> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        if broadcast_shapes(self.shape(x), shape).as_deref() != Some(shape) {
            let expected = format!(
                "a shape that broadcasts to {}",
                ShapeText(shape, &self.symbols)
            );
            return Err(self.mismatch("Expand", expected, &[x]));
        }
        let target = self.expand_target(x, shape)?;
        Ok(self.push(Op::Expand, &[x, target], self.dtype(x), shape.to_vec()))
    }

    /// The shape operand that expands `x` to `shape`.
    pub(super) fn expand_target(&mut self, x: Value, shape: &[Dim]) -> Result<Value> {
        let lead = shape.len() - self.rank(x);
        let dims = self.shape(x).to_vec();
        let parts = shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim.fixed() {
                Some(n) => Part::Fixed(n as i64),
                // Expand broadcasts both ways, so 1 keeps what is there.
                None if axis >= lead && dims[axis - lead] == *dim => Part::Fixed(1),
                None => Part::Computed(dim.clone()),
            })
            .collect();
        self.shape_vector(parts)
    }

    /// An i64 vector of dimensions, a constant as far as they are known.
    fn shape_vector(&mut self, parts: Vec<Part>) -> Result<Value> {
        let mut pieces: Vec<Value> = Vec::new();
        let mut known: Vec<i64> = Vec::new();
        for part in parts {
            match part {
                Part::Fixed(n) => known.push(n),
                Part::Computed(dim) => {
                    if !known.is_empty() {
                        pieces.push(self.integers(&std::mem::take(&mut known)));
                    }
                    pieces.push(self.dim_value(&dim)?);
                }
            }
        }
        if !known.is_empty() || pieces.is_empty() {
            pieces.push(self.integers(&known));
        }
        self.concat(&pieces, 0)
    }

    /// A dimension's run-time value as an i64 vector of one element.
    pub fn dim_value(&mut self, dim: &Dim) -> Result<Value> {
        let (num, den, symbols) = dim.parts();
        let symbols = symbols.to_vec();
        let mut value = None;
        for symbol in symbols {
            let Some(&(source, axis)) = self.symbol_sources.get(&symbol) else {
                let expected = format!("an input with the dimension {}", dim.text(&self.symbols));
                return Err(self.mismatch("Shape", expected, &[]));
            };
            let factor = self.push(Op::ShapeOf { axis }, &[source], DType::I64, vec![1.into()]);
            value = Some(match value {
                Some(product) => self.mul(product, factor)?,
                None => factor,
            });
        }
        let Some(mut value) = value else {
            return Ok(self.integers(&[num as i64]));
        };
        if num != 1 {
            let num = self.integers(&[num as i64]);
            value = self.mul(value, num)?;
        }
        if den != 1 {
            let den = self.integers(&[den as i64]);
            value = self.div(value, den)?;
        }
        Ok(value)
    }

    /// Reorders axes: axis `i` of the result is axis `perm[i]` of `x`.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Result<Value> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.rank(x)) {
            return Err(self.mismatch(
                "Transpose",
                format!("{} axes for {perm:?}", perm.len()),
                &[x],
            ));
        }
        let shape = perm.iter().map(|&i| self.shape(x)[i].clone()).collect();
        Ok(self.push(
            Op::Transpose {
                perm: perm.to_vec(),
            },
            &[x],
            self.dtype(x),
            shape,
        ))
    }

    /// Joins values along `axis`, on which all sizes are fixed.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        if let &[single] = parts {
            return Ok(single);
        }
        let size: Option<u64> = parts
            .iter()
            .map(|&v| self.shape(v).get(axis).and_then(Dim::fixed))
            .sum();
        let rest = |v: Value| {
            let mut shape = self.shape(v).to_vec();
            shape.remove(axis);
            (shape, self.dtype(v))
        };
        let fits =
            !parts.is_empty() && size.is_some() && parts.iter().all(|&v| rest(v) == rest(parts[0]));
        let Some(size) = size.filter(|_| fits) else {
            let expected = format!("operands alike but for a fixed axis {axis}");
            return Err(self.mismatch("Concat", expected, parts));
        };
        let mut shape = self.shape(parts[0]).to_vec();
        shape[axis] = size.into();
        Ok(self.push(Op::Concat { axis }, parts, self.dtype(parts[0]), shape))
    }

    /// Elements `start..end` of `axis`, whose size is fixed.
    pub fn slice(&mut self, x: Value, axis: usize, start: u64, end: u64) -> Result<Value> {
        let size = self.shape(x).get(axis).and_then(Dim::fixed).unwrap_or(0);
        if start >= end || end > size {
            let expected = format!("at least {end} elements on axis {axis}");
            return Err(self.mismatch("Slice", expected, &[x]));
        }
        if (start, end) == (0, size) {
            return Ok(x);
        }
        let mut shape = self.shape(x).to_vec();
        shape[axis] = (end - start).into();
        Ok(self.push(Op::Slice { axis, start, end }, &[x], self.dtype(x), shape))
    }

    /// Cuts `axis` into `n` equal parts.
    pub fn chunk(&mut self, x: Value, axis: usize, n: u64) -> Result<Vec<Value>> {
        let size = self.shape(x).get(axis).and_then(Dim::fixed).unwrap_or(0);
        if n == 0 || size == 0 || !size.is_multiple_of(n) {
            let expected = format!("axis {axis} of a fixed size that is a multiple of {n}");
            return Err(self.mismatch("Split", expected, &[x]));
        }
        let step = size / n;
        (0..n)
            .map(|i| self.slice(x, axis, i * step, (i + 1) * step))
            .collect()
    }

    /// Reverses the order of elements along `axes`.
    pub(in crate::graph) fn flip(&mut self, x: Value, axes: &[usize]) -> Value {
        let shape = self.shape(x).to_vec();
        self.push(
            Op::Flip {
                axes: axes.to_vec(),
            },
            &[x],
            self.dtype(x),
            shape,
        )
    }

    /// Doubles height and width of [B, C, H, W] by repeating pixels.
    pub fn upsample_nearest_2x(&mut self, x: Value) -> Result<Value> {
        let [b, c, h, w] = self.shape(x) else {
            return Err(self.mismatch("Resize", "x [B, C, H, W]", &[x]));
        };
        let two = Dim::from(2_u64);
        let shape = vec![b.clone(), c.clone(), h.times(&two), w.times(&two)];
        Ok(self.push(Op::Upsample2x, &[x], self.dtype(x), shape))
    }

    /// Adds zeros around fixed axes; symbolic axes can only be padded by 0.
    pub fn pad(&mut self, x: Value, before: &[u64], after: &[u64]) -> Result<Value> {
        let rank = self.rank(x);
        let fits = before.len() == rank && after.len() == rank;
        let shape: Option<Vec<Dim>> = (0..rank)
            .map(|i| {
                let (b, a) = (before.get(i)?, after.get(i)?);
                let dim = &self.shape(x)[i];
                if a + b == 0 {
                    Some(dim.clone())
                } else {
                    Some((dim.fixed()? + a + b).into())
                }
            })
            .collect();
        match shape {
            Some(shape) if fits => {
                let op = Op::Pad {
                    before: before.to_vec(),
                    after: after.to_vec(),
                };
                Ok(self.push(op, &[x], self.dtype(x), shape))
            }
            _ => Err(self.mismatch(
                "Pad",
                "a pad per axis, and fixed axes where it isn't 0",
                &[x],
            )),
        }
    }

    /// Rows of `table` along `axis` picked by integer `indices`, as ONNX Gather.
    pub fn gather(&mut self, table: Value, indices: Value, axis: usize) -> Result<Value> {
        let integer = matches!(self.dtype(indices), DType::I64 | DType::I32);
        if !integer || axis >= self.rank(table) {
            let expected = format!("a table with axis {axis} and integer indices");
            return Err(self.mismatch("Gather", expected, &[table, indices]));
        }
        let mut shape = self.shape(table).to_vec();
        shape.splice(axis..=axis, self.shape(indices).to_vec());
        Ok(self.push(
            Op::Gather { axis },
            &[table, indices],
            self.dtype(table),
            shape,
        ))
    }

    /// Index of the first largest element along `axis`, which is dropped; i64.
    pub fn argmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        if axis >= self.rank(x) {
            return Err(self.mismatch("ArgMax", format!("an operand with axis {axis}"), &[x]));
        }
        let mut shape = self.shape(x).to_vec();
        shape.remove(axis);
        Ok(self.push(Op::ArgMax { axis }, &[x], DType::I64, shape))
    }

    /// Reduces axes, keeping them with size 1 if `keepdims`.
    pub fn reduce(
        &mut self,
        kind: Reduction,
        x: Value,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<Value> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let op = Op::Reduce {
            kind,
            axes: axes.clone(),
            keepdims,
        };
        if axes.last().is_some_and(|&a| a >= self.rank(x)) {
            return Err(self.mismatch(op.name(), format!("an operand with axes {axes:?}"), &[x]));
        }
        if axes.is_empty() {
            return Ok(x);
        }
        let shape = self
            .shape(x)
            .iter()
            .enumerate()
            .filter_map(|(i, d)| match axes.contains(&i) {
                true => keepdims.then(|| 1.into()),
                false => Some(d.clone()),
            })
            .collect();
        Ok(self.push(op, &[x], self.dtype(x), shape))
    }

    /// Sum over axes.
    pub fn reduce_sum(&mut self, x: Value, axes: &[usize], keepdims: bool) -> Result<Value> {
        self.reduce(Reduction::ReduceSum, x, axes, keepdims)
    }

    /// Mean over axes.
    pub fn reduce_mean(&mut self, x: Value, axes: &[usize], keepdims: bool) -> Result<Value> {
        self.reduce(Reduction::ReduceMean, x, axes, keepdims)
    }
}

/// One entry of a shape operand.
enum Part {
    Fixed(i64),
    Computed(Dim),
}
