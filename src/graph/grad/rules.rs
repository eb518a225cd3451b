//! One gradient rule per operation.
//!
//! A rule gets the output's adjoint `dy` and returns the adjoints of those operands that need one.
//! Every rule is tested against finite differences, and whole networks against torch autograd.

use crate::graph::builder::Node;
use crate::graph::{
    Binary, Conv, DType, Dim, Error, Graph, Op, Operators, Pool, Reduction, Result, Unary, Value,
};

/// What a rule gets to see.
pub(super) struct Operands<'a> {
    pub(super) node: &'a Node,
    /// Adjoint of the first output, of its shape.
    pub(super) dy: Value,
    /// Per operand: whether its adjoint is wanted.
    pub(super) needs: &'a [bool],
}

impl Operands<'_> {
    fn y(&self) -> Value {
        self.node.outputs[0]
    }

    fn input(&self, i: usize) -> Value {
        self.node.inputs[i]
    }
}

/// Elements of a convolution's weight from which on its flipped copy costs more, in memory or in
/// time to flip, than ConvTranspose loses. Weights that large belong to a network's small pictures,
/// where ConvTranspose takes as long as flipping and convolving (1280 to 1280 channels, 16×16 and
/// below, ONNX Runtime 1.32's CPU provider), or a half more than convolving alone.
const LARGE_WEIGHT: u64 = 1 << 22;

type Adjoints = Vec<(Value, Value)>;

impl Graph {
    /// Adjoints of the operands that need one.
    pub(super) fn operand_gradients(&mut self, o: &Operands) -> Result<Adjoints> {
        // Only the first `data` operands can carry a gradient; shapes, conditions and frozen
        // weights are refused here rather than silently ignored.
        let data = match &o.node.op {
            Op::Binary(_) | Op::MatMul => 2,
            Op::Concat { .. } => o.node.inputs.len(),
            Op::Where => 3,
            _ => 1,
        };
        if let Some(operand) = (data..o.needs.len()).find(|&i| o.needs[i]) {
            return Err(self.no_gradient(o, operand));
        }
        let x = o.input(0);
        let dx = match &o.node.op {
            Op::Binary(op) => return self.binary_gradients(o, *op),
            Op::MatMul => return self.matmul_gradients(o),
            Op::Concat { axis } => return self.concat_gradients(o, *axis),
            Op::Where => return self.where_gradients(o),
            Op::Unary(op) => self.unary_gradient(o, *op)?,
            Op::Cast(_) => self.cast(o.dy, self.dtype(x))?,
            Op::Gemm => self.matmul(o.dy, o.input(1))?,
            Op::Conv(conv) => self.conv_gradient(o, *conv)?,
            Op::Softmax { axis } => self.softmax_gradient(o, *axis)?,
            Op::LayerNormalization { axis, .. } => self.layer_norm_gradient(o, *axis)?,
            Op::Reshape => {
                let shape = self.shape(x).to_vec();
                self.reshape(o.dy, &shape)?
            }
            Op::Expand => self.sum_to(o.dy, x)?,
            Op::PerSample => self.reduce_sum(o.dy, &[0], false)?,
            Op::Transpose { perm } => {
                let mut inverse = vec![0; perm.len()];
                perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
                self.transpose(o.dy, &inverse)?
            }
            Op::Upsample2x => self.upsample_gradient(o)?,
            Op::Pad { before, .. } => self.pad_gradient(o, before)?,
            Op::Reduce {
                kind: kind @ (Reduction::ReduceSum | Reduction::ReduceMean),
                axes,
                keepdims,
            } => self.reduce_gradient(o, *kind, axes, *keepdims)?,
            Op::AveragePool(pool) if *pool == Pool::new(2, 2, 0) => {
                let spread = self.upsample_nearest_2x(o.dy)?;
                self.scale(spread, 0.25)?
            }
            _ => return Err(self.no_gradient(o, 0)),
        };
        Ok(vec![(x, dx)])
    }

    fn no_gradient(&self, o: &Operands, operand: usize) -> Error {
        Error::NoGradient {
            op: o.node.op.name(),
            at: o.node.scope.to_string(),
            operand,
        }
    }

    /// Sums an adjoint over the axes along which `operand` was broadcast.
    fn sum_to(&mut self, dy: Value, operand: Value) -> Result<Value> {
        let target = self.shape(operand).to_vec();
        let lead = self.rank(dy) - target.len();
        let axes: Vec<usize> = (0..self.rank(dy))
            .filter(|&i| i < lead || (target[i - lead].is(1) && !self.shape(dy)[i].is(1)))
            .collect();
        let sum = self.reduce_sum(dy, &axes, true)?;
        self.reshape(sum, &target)
    }

    fn unary_gradient(&mut self, o: &Operands, op: Unary) -> Result<Value> {
        let (x, y, dy) = (o.input(0), o.y(), o.dy);
        match op {
            Unary::Identity => Ok(dy),
            Unary::Neg => self.unary(Unary::Neg, dy),
            Unary::Exp => self.mul(dy, y),
            Unary::Log => self.div(dy, x),
            Unary::Sqrt => {
                let half = self.scale(dy, 0.5)?;
                self.div(half, y)
            }
            Unary::Reciprocal => {
                let square = self.mul(y, y)?;
                let product = self.mul(dy, square)?;
                self.unary(Unary::Neg, product)
            }
            Unary::Sigmoid => {
                // dy · y (1 - y)
                let product = self.mul(dy, y)?;
                let one = self.scalar_like(y, 1.0)?;
                let rest = self.sub(one, y)?;
                self.mul(product, rest)
            }
            Unary::Tanh => {
                let square = self.mul(y, y)?;
                let one = self.scalar_like(y, 1.0)?;
                let rest = self.sub(one, square)?;
                self.mul(dy, rest)
            }
            Unary::Relu => {
                let zero = self.scalar_like(x, 0.0)?;
                let on = self.binary(Binary::Greater, x, zero)?;
                self.select(on, dy, zero)
            }
            Unary::Erf => {
                // 2/√π · exp(-x²)
                let density = self.gaussian(x, 1.0, std::f32::consts::FRAC_2_SQRT_PI)?;
                self.mul(dy, density)
            }
            Unary::Sin => {
                let cos = self.unary(Unary::Cos, x)?;
                self.mul(dy, cos)
            }
            Unary::Cos => {
                let sin = self.unary(Unary::Sin, x)?;
                let product = self.mul(dy, sin)?;
                self.unary(Unary::Neg, product)
            }
            Unary::Gelu => self.gelu_gradient(x, dy),
            Unary::Not => Err(self.no_gradient(o, 0)),
        }
    }

    /// `factor · exp(-rate · x²)`.
    fn gaussian(&mut self, x: Value, rate: f32, factor: f32) -> Result<Value> {
        let square = self.mul(x, x)?;
        let exponent = self.scale(square, -rate)?;
        let bell = self.unary(Unary::Exp, exponent)?;
        self.scale(bell, factor)
    }

    /// d/dx of x·Φ(x) is Φ(x) + x·φ(x).
    fn gelu_gradient(&mut self, x: Value, dy: Value) -> Result<Value> {
        let scaled = self.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
        let erf = self.unary(Unary::Erf, scaled)?;
        let half = self.scale(erf, 0.5)?;
        let point_five = self.scalar_like(x, 0.5)?;
        let cdf = self.add(half, point_five)?;
        let inverse_sqrt_tau =
            0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
        let pdf = self.gaussian(x, 0.5, inverse_sqrt_tau)?;
        let slope = self.mul(x, pdf)?;
        let derivative = self.add(cdf, slope)?;
        self.mul(dy, derivative)
    }

    fn binary_gradients(&mut self, o: &Operands, op: Binary) -> Result<Adjoints> {
        let (a, b, dy) = (o.input(0), o.input(1), o.dy);
        let mut adjoints = Vec::new();
        if o.needs[0] {
            let da = match op {
                Binary::Add | Binary::Sub => dy,
                Binary::Mul => self.mul(dy, b)?,
                Binary::Div => self.div(dy, b)?,
                Binary::Pow if !o.needs[1] => {
                    let one = self.scalar_like(b, 1.0)?;
                    let lower = self.sub(b, one)?;
                    let power = self.binary(Binary::Pow, a, lower)?;
                    let slope = self.mul(power, b)?;
                    self.mul(dy, slope)?
                }
                _ => return Err(self.no_gradient(o, 0)),
            };
            adjoints.push((a, self.sum_to(da, a)?));
        }
        if o.needs[1] {
            let db = match op {
                Binary::Add => dy,
                Binary::Sub => self.unary(Unary::Neg, dy)?,
                Binary::Mul => self.mul(dy, a)?,
                Binary::Div => {
                    let ratio = self.div(o.y(), b)?;
                    let product = self.mul(dy, ratio)?;
                    self.unary(Unary::Neg, product)?
                }
                _ => return Err(self.no_gradient(o, 1)),
            };
            adjoints.push((b, self.sum_to(db, b)?));
        }
        Ok(adjoints)
    }

    fn matmul_gradients(&mut self, o: &Operands) -> Result<Adjoints> {
        let (a, b) = (o.input(0), o.input(1));
        let mut adjoints = Vec::new();
        if o.needs[0] {
            let b_t = self.matrix_transpose(b)?;
            let da = self.matmul(o.dy, b_t)?;
            adjoints.push((a, self.sum_to(da, a)?));
        }
        if o.needs[1] {
            let db = match self.transposed_from(b) {
                // b is the transpose of a parameter: its gradient is wanted the other way round,
                // so (aᵀ dy)ᵀ = dyᵀ a saves transposing the product.
                Some(source) => {
                    let dy_t = self.matrix_transpose(o.dy)?;
                    let d_source = self.matmul(dy_t, a)?;
                    let summed = self.sum_to(d_source, source)?;
                    self.matrix_transpose(summed)?
                }
                None => {
                    let a_t = self.matrix_transpose(a)?;
                    let db = self.matmul(a_t, o.dy)?;
                    self.sum_to(db, b)?
                }
            };
            adjoints.push((b, db));
        }
        Ok(adjoints)
    }

    /// The value whose last two axes were swapped to give `v`.
    pub(in crate::graph) fn transposed_from(&self, v: Value) -> Option<Value> {
        let node = self.producer(v)?;
        let Op::Transpose { perm } = &node.op else {
            return None;
        };
        (*perm == swapped(perm.len())).then(|| node.inputs[0])
    }

    fn matrix_transpose(&mut self, x: Value) -> Result<Value> {
        match self.transposed_from(x) {
            Some(source) => Ok(source),
            None => self.transpose(x, &swapped(self.rank(x))),
        }
    }

    /// A convolution's input gradient. With stride 1 it is a convolution again, of the flipped
    /// and transposed weight (which the runtime folds at load): convolutions are the best-tuned
    /// kernels of the CPU provider, ConvTranspose the worst. Other strides keep ConvTranspose, and so do
    /// weights too large to be held twice, and graphs made for CUDA, where it is cuDNN's own input gradient.
    fn conv_gradient(&mut self, o: &Operands, conv: Conv) -> Result<Value> {
        let (x, weight) = (o.input(0), o.input(1));
        let x_shape = self.shape(x).to_vec();
        let kernel: Vec<u64> = self.shape(weight)[2..]
            .iter()
            .filter_map(Dim::fixed)
            .collect();
        let elements = self.shape(weight).iter().filter_map(Dim::fixed);
        let large = elements.product::<u64>() >= LARGE_WEIGHT;
        let cuda = self.made_for == Some(Operators::Cuda);
        let full = |i: usize| (kernel[i % 2] - 1).checked_sub(conv.pads[i]);
        let pads = [full(0), full(1), full(2), full(3)];
        match pads {
            [Some(top), Some(left), Some(bottom), Some(right)]
                if conv.strides == [1, 1] && conv.group == 1 && !large && !cuda =>
            {
                let swapped = self.transpose(weight, &[1, 0, 2, 3])?;
                let flipped = if kernel == [1, 1] {
                    swapped
                } else {
                    self.flip(swapped, &[2, 3])
                };
                let conv = Conv {
                    pads: [top, left, bottom, right],
                    ..conv
                };
                self.conv2d(o.dy, flipped, None, conv)
            }
            _ => Ok(self.conv_transpose2d(o.dy, weight, conv, &x_shape)),
        }
    }

    /// y ⊙ (dy − Σ dy ⊙ y).
    fn softmax_gradient(&mut self, o: &Operands, axis: usize) -> Result<Value> {
        let weighted = self.mul(o.dy, o.y())?;
        let total = self.reduce_sum(weighted, &[axis], true)?;
        let centred = self.sub(o.dy, total)?;
        self.mul(o.y(), centred)
    }

    /// With g = dy ⊙ scale and x̂ = (x − mean)·rstd over the last axis:
    /// dx = rstd · (g − mean(g) − x̂ · mean(g ⊙ x̂)), in f32 as the forward pass's statistics are.
    fn layer_norm_gradient(&mut self, o: &Operands, axis: usize) -> Result<Value> {
        let (x, scale) = (o.input(0), o.input(1));
        let dtype = self.dtype(x);
        let x = self.cast(x, DType::F32)?;
        let dy = self.cast(o.dy, DType::F32)?;
        let (mean, rstd) = (o.node.outputs[1], o.node.outputs[2]);
        let centred = self.sub(x, mean)?;
        let normal = self.mul(centred, rstd)?;
        let g = if self.is_expanded_one(scale) {
            dy
        } else {
            let scale = self.cast(scale, DType::F32)?;
            self.mul(dy, scale)?
        };
        let g_mean = self.reduce_mean(g, &[axis], true)?;
        let product = self.mul(g, normal)?;
        let product_mean = self.reduce_mean(product, &[axis], true)?;
        let along = self.mul(normal, product_mean)?;
        let rest = self.sub(g, g_mean)?;
        let rest = self.sub(rest, along)?;
        let dx = self.mul(rest, rstd)?;
        self.cast(dx, dtype)
    }

    fn concat_gradients(&mut self, o: &Operands, axis: usize) -> Result<Adjoints> {
        let mut start = 0;
        let mut adjoints = Vec::new();
        for (&part, &needed) in o.node.inputs.iter().zip(o.needs) {
            let size = self.shape(part)[axis].fixed().unwrap_or(0);
            if needed {
                adjoints.push((part, self.slice(o.dy, axis, start, start + size)?));
            }
            start += size;
        }
        Ok(adjoints)
    }

    fn where_gradients(&mut self, o: &Operands) -> Result<Adjoints> {
        if o.needs[0] {
            return Err(self.no_gradient(o, 0));
        }
        let zero = self.scalar_like(o.dy, 0.0)?;
        let mut adjoints = Vec::new();
        for (i, (a, b)) in [(1, (o.dy, zero)), (2, (zero, o.dy))] {
            if o.needs[i] {
                let chosen = self.select(o.input(0), a, b)?;
                adjoints.push((o.input(i), self.sum_to(chosen, o.input(i))?));
            }
        }
        Ok(adjoints)
    }

    /// What lies between the zeros.
    fn pad_gradient(&mut self, o: &Operands, before: &[u64]) -> Result<Value> {
        let mut dx = o.dy;
        for (axis, &start) in before.iter().enumerate() {
            if let Some(size) = self.shape(o.input(0))[axis].fixed() {
                dx = self.slice(dx, axis, start, start + size)?;
            }
        }
        Ok(dx)
    }

    /// Every pixel became four; their adjoints add up.
    fn upsample_gradient(&mut self, o: &Operands) -> Result<Value> {
        let mean = self.average_pool2d(o.dy, Pool::new(2, 2, 0))?;
        self.scale(mean, 4.0)
    }

    fn reduce_gradient(
        &mut self,
        o: &Operands,
        kind: Reduction,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<Value> {
        let x = o.input(0);
        let shape = self.shape(x).to_vec();
        let mut kept = shape.clone();
        axes.iter().for_each(|&a| kept[a] = 1.into());
        let dy = if keepdims {
            o.dy
        } else {
            self.reshape(o.dy, &kept)?
        };
        let spread = self.expand(dy, &shape)?;
        if kind == Reduction::ReduceSum {
            return Ok(spread);
        }
        let count = axes
            .iter()
            .fold(Dim::from(1_u64), |n, &a| n.times(&shape[a]));
        match count.fixed() {
            Some(n) => self.scale(spread, 1.0 / n as f32),
            None => {
                let n = self.dim_value(&count)?;
                let n = self.cast(n, DType::F32)?;
                let n = self.cast(n, self.dtype(spread))?;
                self.div(spread, n)
            }
        }
    }
}

/// The permutation that swaps the last two of `rank` axes.
fn swapped(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    perm
}
