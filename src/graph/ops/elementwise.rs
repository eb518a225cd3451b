//! Operations element by element, with numpy's broadcasting.

use crate::graph::{Binary, DType, Dim, Graph, Op, Result, Unary, Value};

impl Graph {
    /// Applies `op` to every element.
    pub fn unary(&mut self, op: Unary, x: Value) -> Result<Value> {
        let dtype = self.dtype(x);
        let fits = match op {
            Unary::Not => dtype == DType::Bool,
            Unary::Identity => true,
            Unary::Neg => dtype != DType::Bool,
            _ => dtype.is_float(),
        };
        if !fits {
            let expected = if op == Unary::Not {
                "a truth value"
            } else {
                "a floating-point operand"
            };
            return Err(self.mismatch(Op::Unary(op).name(), expected, &[x]));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.push(Op::Unary(op), &[x], dtype, shape))
    }

    /// Combines two operands of one dtype, broadcasting shapes.
    pub fn binary(&mut self, op: Binary, a: Value, b: Value) -> Result<Value> {
        let name = Op::Binary(op).name();
        if self.dtype(a) != self.dtype(b) {
            return Err(self.mismatch(name, "operands of one dtype", &[a, b]));
        }
        let shape = self
            .broadcast(a, b)
            .ok_or_else(|| self.mismatch(name, "shapes that broadcast", &[a, b]))?;
        let dtype = if op.is_comparison() {
            DType::Bool
        } else {
            self.dtype(a)
        };
        Ok(self.push(Op::Binary(op), &[a, b], dtype, shape))
    }

    /// The common shape of two operands, if they broadcast.
    pub(super) fn broadcast(&self, a: Value, b: Value) -> Option<Vec<Dim>> {
        broadcast_shapes(self.shape(a), self.shape(b))
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Sub, a, b)
    }

    /// `a · b`, element by element.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Div, a, b)
    }

    /// `x · factor` for a constant factor.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value> {
        let factor = self.scalar_like(x, factor)?;
        self.mul(x, factor)
    }

    /// A scalar constant of `x`'s dtype.
    pub fn scalar_like(&mut self, x: Value, value: f32) -> Result<Value> {
        let scalar = self.scalar(value);
        self.cast(scalar, self.dtype(x))
    }

    /// `condition ? a : b`.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Result<Value> {
        let expected = "a truth value and two operands of one dtype that broadcast";
        let shape = self
            .broadcast(a, b)
            .and_then(|ab| broadcast_shapes(&ab, self.shape(condition)))
            .filter(|_| self.dtype(condition) == DType::Bool && self.dtype(a) == self.dtype(b))
            .ok_or_else(|| self.mismatch("Where", expected, &[condition, a, b]))?;
        Ok(self.push(Op::Where, &[condition, a, b], self.dtype(a), shape))
    }

    /// Converts elements to `dtype`; a value that has it already is returned as it is.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.dtype(x) == dtype {
            return Ok(x);
        }
        let shape = self.shape(x).to_vec();
        Ok(self.push(Op::Cast(dtype), &[x], dtype, shape))
    }

    /// Logistic function.
    pub fn sigmoid(&mut self, x: Value) -> Result<Value> {
        self.unary(Unary::Sigmoid, x)
    }

    /// SiLU (swish), `x · σ(x)`.
    pub fn silu(&mut self, x: Value) -> Result<Value> {
        let gate = self.sigmoid(x)?;
        self.mul(x, gate)
    }

    /// Exact GELU, `x · Φ(x)` with the error function.
    pub fn gelu(&mut self, x: Value) -> Result<Value> {
        self.unary(Unary::Gelu, x)
    }

    /// `x · σ(1.702 x)`, OpenAI CLIP's activation (transformers `QuickGELUActivation`).
    pub fn quick_gelu(&mut self, x: Value) -> Result<Value> {
        let scaled = self.scale(x, 1.702)?;
        let gate = self.sigmoid(scaled)?;
        self.mul(x, gate)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, x: Value) -> Result<Value> {
        self.unary(Unary::Relu, x)
    }
}

/// numpy's broadcasting of two shapes. Symbolic dimensions broadcast only against themselves or 1.
pub(super) fn broadcast_shapes(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1_u64);
    let at = |shape: &[Dim], i: usize| {
        (i + shape.len())
            .checked_sub(rank)
            .map_or_else(|| one.clone(), |j| shape[j].clone())
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y.is(1) => Some(x),
            (x, y) if x.is(1) => Some(y),
            _ => None,
        })
        .collect()
}
