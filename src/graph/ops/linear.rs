//! Matrix products, linear layers, convolutions and pooling.

use super::elementwise::broadcast_shapes;
use crate::graph::{Conv, DType, Dim, Graph, Op, Pool, Result, Value};

impl Graph {
    /// numpy's `matmul`: the last two axes multiply, the others broadcast.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value> {
        let shape = self
            .matmul_shape(a, b)
            .filter(|_| self.same_float(a, b))
            .ok_or_else(|| {
                self.mismatch(
                    "MatMul",
                    "float operands [.., m, k] and [.., k, n]",
                    &[a, b],
                )
            })?;
        Ok(self.push(Op::MatMul, &[a, b], self.dtype(a), shape))
    }

    fn matmul_shape(&self, a: Value, b: Value) -> Option<Vec<Dim>> {
        let [a_batch @ .., m, ka] = self.shape(a) else {
            return None;
        };
        let [b_batch @ .., kb, n] = self.shape(b) else {
            return None;
        };
        if ka != kb {
            return None;
        }
        let mut shape = broadcast_shapes(a_batch, b_batch)?;
        shape.extend([m.clone(), n.clone()]);
        Some(shape)
    }

    fn same_float(&self, a: Value, b: Value) -> bool {
        self.dtype(a) == self.dtype(b) && self.dtype(a).is_float()
    }

    /// A linear layer `x Wᵀ + b`: `x` [.., in], `weight` [out, in] as checkpoints store it, `bias`
    /// `[out]`; result [.., out].
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
        let (x_shape, w_shape) = (self.shape(x), self.shape(weight));
        let fits = w_shape.len() == 2
            && !x_shape.is_empty()
            && x_shape.last() == w_shape.last()
            && bias.is_none_or(|b| self.shape(b) == &w_shape[..1]);
        if !fits {
            let operands: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
            return Err(self.mismatch(
                "Gemm",
                "x [.., in], weight [out, in], bias [out]",
                &operands,
            ));
        }
        if let (2, Some(bias)) = (x_shape.len(), bias) {
            let shape = vec![x_shape[0].clone(), w_shape[0].clone()];
            if !self.same_float(x, weight) || !self.same_float(x, bias) {
                return Err(self.mismatch(
                    "Gemm",
                    "float operands of one dtype",
                    &[x, weight, bias],
                ));
            }
            return Ok(self.push(Op::Gemm, &[x, weight, bias], self.dtype(x), shape));
        }
        let weight = self.transpose(weight, &[1, 0])?;
        let product = self.matmul(x, weight)?;
        match bias {
            Some(bias) => self.add(product, bias),
            None => Ok(product),
        }
    }

    /// Two-dimensional convolution: `x` [B, C, H, W], `weight` [out, C/group, kH, kW], `bias` `[out]`.
    pub fn conv2d(
        &mut self,
        x: Value,
        weight: Value,
        bias: Option<Value>,
        conv: Conv,
    ) -> Result<Value> {
        let operands: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        let shape = self.conv_shape(x, weight, bias, conv).ok_or_else(|| {
            let expected = format!(
                "x [B, C, H, W], weight [out, C/{}, kH, kW], bias [out] and sizes that stride {:?} divides",
                conv.group, conv.strides
            );
            self.mismatch("Conv", expected, &operands)
        })?;
        Ok(self.push(Op::Conv(conv), &operands, self.dtype(x), shape))
    }

    fn conv_shape(&self, x: Value, w: Value, bias: Option<Value>, conv: Conv) -> Option<Vec<Dim>> {
        let [b, c, height, width] = self.shape(x) else {
            return None;
        };
        let [out, per_group, kh, kw] = self.shape(w) else {
            return None;
        };
        let bias_fits = bias.is_none_or(|v| self.shape(v) == std::slice::from_ref(out));
        if !bias_fits || *c != per_group.times(&conv.group.into()) || !self.same_float(x, w) {
            return None;
        }
        let [top, left, bottom, right] = conv.pads;
        let h = self.window(height, kh.fixed()?, conv.strides[0], top + bottom)?;
        let w = self.window(width, kw.fixed()?, conv.strides[1], left + right)?;
        Some(vec![b.clone(), out.clone(), h, w])
    }

    /// Positions of a window along an axis: `⌊(size + pad − kernel) / stride⌋ + 1`.
    ///
    /// For a symbolic size the result must be a product again, which it is exactly when the stride
    /// divides the size and the padding makes up for the kernel.
    fn window(&self, size: &Dim, kernel: u64, stride: u64, pad: u64) -> Option<Dim> {
        if let Some(n) = size.fixed() {
            return (n + pad >= kernel).then(|| ((n + pad - kernel) / stride + 1).into());
        }
        let slack = i64::try_from(pad).ok()? - i64::try_from(kernel).ok()?;
        let same = slack.div_euclid(i64::try_from(stride).ok()?) + 1 == 0;
        let out = size.over(stride);
        (same && out.is_whole(&self.symbols)).then_some(out)
    }

    /// Gradient of a convolution with respect to its input: `dy` [B, out, h, w], the
    /// convolution's `weight`; result of the shape `x` had.
    pub(in crate::graph) fn conv_transpose2d(
        &mut self,
        dy: Value,
        weight: Value,
        conv: Conv,
        x_shape: &[Dim],
    ) -> Value {
        let dims: Vec<u64> = self.shape(weight)[2..]
            .iter()
            .filter_map(Dim::fixed)
            .collect();
        let output_padding = std::array::from_fn(|i| {
            // x + pad - kernel leaves this remainder, which the forward pass never read.
            let pad = conv.pads[i] + conv.pads[i + 2];
            match x_shape[2 + i].fixed() {
                Some(n) => (n + pad - dims[i]) % conv.strides[i],
                // A symbolic size is a multiple of the stride.
                None => (pad + conv.strides[i] * dims[i] - dims[i]) % conv.strides[i],
            }
        });
        let op = Op::ConvTranspose {
            conv,
            output_padding,
        };
        self.push(op, &[dy, weight], self.dtype(dy), x_shape.to_vec())
    }

    /// Maximum over windows of `x` [B, C, H, W].
    pub fn max_pool2d(&mut self, x: Value, pool: Pool) -> Result<Value> {
        let shape = self.pool_shape("MaxPool", x, pool)?;
        Ok(self.push(Op::MaxPool(pool), &[x], self.dtype(x), shape))
    }

    /// Mean over windows of `x` [B, C, H, W]; padding is not counted.
    pub fn average_pool2d(&mut self, x: Value, pool: Pool) -> Result<Value> {
        let shape = self.pool_shape("AveragePool", x, pool)?;
        Ok(self.push(Op::AveragePool(pool), &[x], self.dtype(x), shape))
    }

    fn pool_shape(&self, op: &'static str, x: Value, pool: Pool) -> Result<Vec<Dim>> {
        let error = || self.mismatch(op, format!("x [B, C, H, W] that fits {pool:?}"), &[x]);
        let [b, c, height, width] = self.shape(x) else {
            return Err(error());
        };
        let [top, left, bottom, right] = pool.pads;
        let h = self.window(height, pool.kernel[0], pool.strides[0], top + bottom);
        let w = self.window(width, pool.kernel[1], pool.strides[1], left + right);
        let (Some(h), Some(w)) = (h, w) else {
            return Err(error());
        };
        Ok(vec![b.clone(), c.clone(), h, w])
    }

    /// Mean over all positions: [B, C, H, W] to [B, C, 1, 1].
    pub fn global_average_pool(&mut self, x: Value) -> Result<Value> {
        let [b, c, _, _] = self.shape(x) else {
            return Err(self.mismatch("GlobalAveragePool", "x [B, C, H, W]", &[x]));
        };
        let shape = vec![b.clone(), c.clone(), 1.into(), 1.into()];
        Ok(self.push(Op::GlobalAveragePool, &[x], self.dtype(x), shape))
    }

    /// Gives a parameter [a, b] a leading batch axis without copying it: the gradient with
    /// respect to the result is per sample, [B, a, b].
    pub fn per_sample(&mut self, parameter: Value, batch: &Dim) -> Result<Value> {
        if self.dtype(parameter) != DType::F32 {
            return Err(self.mismatch("Expand", "an f32 parameter", &[parameter]));
        }
        let shape: Vec<Dim> = std::iter::once(batch)
            .chain(self.shape(parameter))
            .cloned()
            .collect();
        let target = self.expand_target(parameter, &shape)?;
        Ok(self.push(Op::PerSample, &[parameter, target], DType::F32, shape))
    }
}
