//! The forms of matrix products: what is transposed is read transposed, so that no weight is.
//!
//! The networks and their gradients are written with MatMul and Transpose alone. A linear layer's weight
//! lies as [out, in] in its file and is multiplied transposed; per-sample gradients are products of a
//! transposed activation; attention's products transpose keys, scores and weights. A runtime either turns
//! a constant over when it loads (a second copy of every weight, and half a minute of one core for SDXL)
//! or does so at every run.

use super::builder::Node;
use super::{Binary, Contrib, Dim, Graph, Op, Operators, Result, Value};

/// A product as FusedMatMul has it.
struct Product {
    operands: [Value; 2],
    transposed: [bool; 2],
    alpha: f32,
}

impl Graph {
    /// Gives each product the form that needs the fewest other operations.
    pub(super) fn choose_products(&mut self, operators: Operators) -> Result<()> {
        match operators {
            Operators::Standard => self.linear_layers_as_gemm(),
            Operators::Products | Operators::Cuda => {
                self.fuse_products();
                Ok(())
            }
        }
    }

    /// MatMul takes over transpositions of its operands and result, and constant factors of all three.
    fn fuse_products(&mut self) {
        let within = self.read_by_products();
        let uses = self.uses();
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let single = |v: Value| uses[v.index()] == 1;
            let product = match &node.op {
                Op::MatMul => self.product(node, &within),
                Op::Binary(Binary::Mul) => self.scaled_product(node, single),
                Op::Transpose { .. } => self.transposed_product(node, single),
                _ => None,
            };
            if let Some(product) = product {
                let node = &mut self.nodes[index];
                node.inputs = product.operands.to_vec();
                node.op = product.op();
            }
        }
    }

    /// Per value: whether nothing but products reads it, as it is or transposed.
    fn read_by_products(&self) -> Vec<bool> {
        let mut within = vec![true; self.tensors.len()];
        for (_, value) in &self.outputs {
            within[value.index()] = false;
        }
        for node in self.nodes.iter().rev() {
            let passes = match node.op {
                Op::MatMul => true,
                Op::Transpose { .. } => {
                    let y = node.outputs[0];
                    self.transposed_from(y).is_some() && within[y.index()]
                }
                _ => false,
            };
            if !passes {
                node.inputs.iter().for_each(|v| within[v.index()] = false);
            }
        }
        within
    }

    /// A MatMul with what its operands were made by.
    fn product(&self, node: &Node, within: &[bool]) -> Option<Product> {
        let mut product = Product {
            operands: [node.inputs[0], node.inputs[1]],
            transposed: [false; 2],
            alpha: 1.0,
        };
        for side in 0..2 {
            loop {
                let operand = product.operands[side];
                if let Some(source) = self.transposed_from(operand) {
                    product.operands[side] = source;
                    product.transposed[side] ^= true;
                } else if let Some((source, factor)) =
                    self.multiple(operand).filter(|_| within[operand.index()])
                {
                    product.operands[side] = source;
                    product.alpha *= factor;
                } else {
                    break;
                }
            }
        }
        Some(product).filter(|p| p.transposed != [false; 2] || p.alpha != 1.0)
    }

    /// What a value is a constant multiple of.
    fn multiple(&self, v: Value) -> Option<(Value, f32)> {
        let node = self.producer(v)?;
        let (Op::Binary(Binary::Mul), &[x, factor]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        let same = self.shape(x) == self.shape(v);
        Some((x, self.constant_f32(factor)?)).filter(|_| same)
    }

    /// A constant multiple of a product that nobody else reads.
    fn scaled_product(&self, node: &Node, single: impl Fn(Value) -> bool) -> Option<Product> {
        let (x, factor) = self.multiple(node.outputs[0])?;
        let mut product = self.product_of(x).filter(|_| single(x))?;
        product.alpha *= factor;
        Some(product)
    }

    /// A product that nobody reads but transposed: (a b)ᵀ = bᵀ aᵀ.
    fn transposed_product(&self, node: &Node, single: impl Fn(Value) -> bool) -> Option<Product> {
        let x = self.transposed_from(node.outputs[0])?;
        let product = self.product_of(x).filter(|_| single(x))?;
        // Only where neither operand is broadcast along the batch do their axes change places.
        let ranks = product.operands.map(|v| self.rank(v));
        let ([a, b], [ta, tb]) = (product.operands, product.transposed);
        (ranks == [self.rank(x); 2]).then_some(Product {
            operands: [b, a],
            transposed: [!tb, !ta],
            alpha: product.alpha,
        })
    }

    fn product_of(&self, v: Value) -> Option<Product> {
        let node = self.producer(v)?;
        let (transposed, alpha) = match node.op {
            Op::MatMul => ([false; 2], 1.0),
            Op::Contrib(Contrib::MatMul { transposed, alpha }) => (transposed, alpha.get()),
            _ => return None,
        };
        Some(Product {
            operands: [node.inputs[0], node.inputs[1]],
            transposed,
            alpha,
        })
    }

    /// Products with a transposed matrix become Gemm, which takes it as it lies and a bias too.
    fn linear_layers_as_gemm(&mut self) -> Result<()> {
        let old = self.clone();
        let uses = old.uses();
        for node in std::mem::take(&mut self.nodes) {
            let layer = match &node.op {
                Op::MatMul => old.layer(node.outputs[0]).map(|(x, w)| (x, w, None)),
                Op::Binary(Binary::Add) => old
                    .biased_layer(&node, &uses)
                    .map(|(x, w, b)| (x, w, Some(b))),
                _ => None,
            };
            match layer {
                Some((x, weight, bias)) => self.gemm_node(node, x, weight, bias)?,
                None => self.nodes.push(node),
            }
        }
        self.relink();
        Ok(())
    }

    /// The operands [.., k] and [n, k] of a product with the transposed matrix.
    fn layer(&self, product: Value) -> Option<(Value, Value)> {
        let node = self.producer(product).filter(|n| n.op == Op::MatMul)?;
        let weight = self.transposed_from(node.inputs[1])?;
        let x = node.inputs[0];
        let fixed = self.shape(x).iter().all(|d| d.fixed().is_some());
        (self.rank(weight) == 2 && self.rank(x) >= 2 && fixed).then_some((x, weight))
    }

    /// The same with a bias `[n]` added.
    fn biased_layer(&self, node: &Node, uses: &[u32]) -> Option<(Value, Value, Value)> {
        let &[product, bias] = node.inputs.as_slice() else {
            return None;
        };
        let (x, weight) = self.layer(product)?;
        let fits = self.shape(bias) == &self.shape(weight)[..1] && uses[product.index()] == 1;
        fits.then_some((x, weight, bias))
    }

    /// Writes a node anew as Gemm of matrices.
    fn gemm_node(
        &mut self,
        node: Node,
        x: Value,
        weight: Value,
        bias: Option<Value>,
    ) -> Result<()> {
        self.scope = vec![node.scope.to_string()];
        let [lead @ .., inner] = self.shape(x) else {
            return Ok(());
        };
        let rows = lead.iter().fold(Dim::from(1_u64), |n, d| n.times(d));
        let (inner, out) = (inner.clone(), self.shape(weight)[0].clone());
        let flat = self.reshape(x, &[rows.clone(), inner])?;
        let inputs: Vec<Value> = [flat, weight].into_iter().chain(bias).collect();
        let y = node.outputs[0];
        if self.rank(x) == 2 {
            let op = Op::Gemm;
            self.nodes.push(Node { op, inputs, ..node });
        } else {
            let dtype = self.dtype(y);
            let product = self.push(Op::Gemm, &inputs, dtype, vec![rows, out]);
            let shape = self.shape(y).to_vec();
            let inputs = vec![product, self.reshape_target(product, &shape)?];
            let op = Op::Reshape;
            self.nodes.push(Node { op, inputs, ..node });
        }
        self.scope.clear();
        Ok(())
    }
}

impl Product {
    fn op(&self) -> Op {
        match self.transposed == [false; 2] && self.alpha == 1.0 {
            true => Op::MatMul,
            false => Op::Contrib(Contrib::MatMul {
                transposed: self.transposed,
                alpha: self.alpha.into(),
            }),
        }
    }
}
