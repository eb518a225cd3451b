//! Layers as torch has them: a checkpoint's tensors and one graph operation.

use std::fmt::Display;
use std::rc::Rc;

use super::lora::Lora;
use super::{Error, Result};
use crate::graph::{Conv, DType, Data, Graph, Value};
use crate::tensors::{Scope, Tensor};

/// What a network function gets for its weights: a view of the checkpoint at one module.
#[derive(Clone)]
pub struct Params<'a> {
    scope: Scope<'a>,
    /// Module path inside the network, which is how adapters name LoRA targets. It differs from
    /// the scope's prefix where the checkpoint holds more than this network.
    path: String,
    compute: DType,
    score_limit: Option<u64>,
    lora: Option<Rc<Lora>>,
}

impl<'a> Params<'a> {
    /// The weights of a whole network under `scope`. Weights are stored as the checkpoint has them
    /// and cast to `compute`, the dtype of all activations.
    pub fn new(scope: Scope<'a>, compute: DType) -> Self {
        Self {
            scope,
            path: String::new(),
            compute,
            score_limit: None,
            lora: None,
        }
    }

    /// The same weights with LoRA factors on the linear layers that `lora` targets.
    pub fn with_lora(&self, lora: Rc<Lora>) -> Self {
        Self {
            lora: Some(lora),
            ..self.clone()
        }
    }

    /// The same weights with attention cut so that, at the sizes the graph is planned for, no
    /// matrix of scores takes more bytes than this.
    pub fn with_score_limit(&self, bytes: Option<u64>) -> Self {
        Self {
            score_limit: bytes,
            ..self.clone()
        }
    }

    /// Most bytes of a matrix of attention scores.
    pub fn score_limit(&self) -> Option<u64> {
        self.score_limit
    }

    /// The weights of a submodule.
    pub fn pp(&self, name: impl Display) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_string(),
            path => format!("{path}.{name}"),
        };
        Self {
            scope: self.scope.pp(name),
            path,
            ..self.clone()
        }
    }

    /// Builds a submodule: its weights, and a graph scope of its name.
    pub fn within<T>(
        &self,
        g: &mut Graph,
        name: impl Display,
        build: impl FnOnce(&mut Graph, &Self) -> Result<T>,
    ) -> Result<T> {
        let inner = self.pp(&name);
        g.scoped(name.to_string(), |g| build(g, &inner))
    }

    /// The dtype of activations.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// The view of the checkpoint.
    pub fn scope(&self) -> &Scope<'a> {
        &self.scope
    }

    /// The tensor `name`, which must have this shape, in the compute dtype.
    pub fn get(&self, g: &mut Graph, name: &str, shape: &[u64]) -> Result<Value> {
        let tensor = self.scope.get(name, shape)?;
        self.place(g, &tensor, shape)
    }

    /// A matrix [out, in] that older checkpoints hold as a 1×1 convolution [out, in, 1, 1]: the
    /// bytes are the same, so only the shape it is declared with changes.
    fn matrix(&self, g: &mut Graph, out: u64, inp: u64) -> Result<Value> {
        let stored = self.scope.get("weight", &[out, inp, 1, 1]);
        match stored {
            Ok(tensor) => self.place(g, &tensor, &[out, inp]),
            Err(_) => self.get(g, "weight", &[out, inp]),
        }
    }

    fn place(&self, g: &mut Graph, tensor: &Tensor, shape: &[u64]) -> Result<Value> {
        let dtype = tensor.dtype;
        if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(Error::Dtype {
                key: tensor.name.clone(),
                dtype: dtype.to_string(),
            });
        }
        let data = Data::External {
            file: tensor.file.clone(),
            offset: tensor.offset,
            length: tensor.len,
        };
        let value = g.initializer(&tensor.name, dtype, shape, data);
        Ok(g.cast(value, self.compute)?)
    }

    /// torch `Linear(inp, out)`: `x` [.., inp] to [.., out], with LoRA where it is targeted.
    pub fn linear(&self, g: &mut Graph, x: Value, inp: u64, out: u64, bias: bool) -> Result<Value> {
        let weight = self.matrix(g, out, inp)?;
        let bias = if bias {
            Some(self.get(g, "bias", &[out])?)
        } else {
            None
        };
        let y = g.linear(x, weight, bias)?;
        match self.lora_change(g, x, out)? {
            Some(change) => Ok(g.add(y, change)?),
            None => Ok(y),
        }
    }

    fn lora_change(&self, g: &mut Graph, x: Value, out: u64) -> Result<Option<Value>> {
        match &self.lora {
            Some(lora) => lora.change(g, &self.path, x, out),
            None => Ok(None),
        }
    }

    /// The two halves of the output of torch `Linear(inp, 2 * half)`, [.., half] each.
    ///
    /// Each half is a product with its own rows of the weight, which lie together in the file: the
    /// output needs no splitting, nor its gradient any joining.
    pub fn linear_halves(
        &self,
        g: &mut Graph,
        x: Value,
        inp: u64,
        half: u64,
    ) -> Result<[Value; 2]> {
        let weight = self.scope.get("weight", &[2 * half, inp])?;
        let bias = self.scope.get("bias", &[2 * half])?;
        let mut product = |part: u64| -> Result<Value> {
            let weight = self.place(g, &half_of(&weight, part), &[half, inp])?;
            let bias = self.place(g, &half_of(&bias, part), &[half])?;
            Ok(g.linear(x, weight, Some(bias))?)
        };
        let halves = [product(0)?, product(1)?];
        let Some(change) = self.lora_change(g, x, 2 * half)? else {
            return Ok(halves);
        };
        let axis = g.rank(change) - 1;
        let changes = g.chunk(change, axis, 2)?;
        Ok([g.add(halves[0], changes[0])?, g.add(halves[1], changes[1])?])
    }

    /// torch `Conv2d(inp, out, kernel)`: `x` [B, inp, H, W].
    pub fn conv(
        &self,
        g: &mut Graph,
        x: Value,
        channels: (u64, u64),
        kernel: u64,
        conv: Conv,
        bias: bool,
    ) -> Result<Value> {
        if let Some(lora) = &self.lora {
            lora.refuse_convolution(&self.path)?;
        }
        let (inp, out) = channels;
        let weight = self.get(g, "weight", &[out, inp, kernel, kernel])?;
        let bias = if bias {
            Some(self.get(g, "bias", &[out])?)
        } else {
            None
        };
        Ok(g.conv2d(x, weight, bias, conv)?)
    }

    /// A convolution with bias that keeps the size: odd `kernel`, stride 1.
    pub fn same_conv(
        &self,
        g: &mut Graph,
        x: Value,
        channels: (u64, u64),
        kernel: u64,
    ) -> Result<Value> {
        self.conv(g, x, channels, kernel, Conv::new(1, (kernel - 1) / 2), true)
    }

    /// torch `LayerNorm(n)` over the last axis.
    pub fn layer_norm(&self, g: &mut Graph, x: Value, n: u64, epsilon: f32) -> Result<Value> {
        let scale = self.get(g, "weight", &[n])?;
        let bias = self.get(g, "bias", &[n])?;
        Ok(g.layer_norm(x, scale, bias, epsilon)?)
    }

    /// torch `GroupNorm(groups, n)`: `x` [B, n, ..].
    pub fn group_norm(
        &self,
        g: &mut Graph,
        x: Value,
        n: u64,
        groups: u64,
        epsilon: f32,
    ) -> Result<Value> {
        let scale = self.get(g, "weight", &[n])?;
        let bias = self.get(g, "bias", &[n])?;
        Ok(g.group_norm(x, groups, scale, bias, epsilon)?)
    }
}

/// The first or second half of a tensor's rows.
fn half_of(tensor: &Tensor, part: u64) -> Tensor {
    let len = tensor.len / 2;
    Tensor {
        name: format!("{}.{part}", tensor.name),
        offset: tensor.offset + part * len,
        len,
        ..tensor.clone()
    }
}

/// Activations that the configurations name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Silu,
    Gelu,
    QuickGelu,
    Relu,
}

impl Activation {
    /// By transformers' or diffusers' name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" => Some(Self::Gelu),
            "quick_gelu" => Some(Self::QuickGelu),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    pub(super) fn apply(self, g: &mut Graph, x: Value) -> Result<Value> {
        Ok(match self {
            Self::Silu => g.silu(x)?,
            Self::Gelu => g.gelu(x)?,
            Self::QuickGelu => g.quick_gelu(x)?,
            Self::Relu => g.relu(x)?,
        })
    }
}
