//! LoRA on linear layers as graph inputs.
//!
//! A targeted layer computes `y = W x + b + lora_scale · B (A x)`, with A and B inputs of the graph
//! that default to zero: one exported model runs without an adapter, with any adapter of its rank
//! or less, and under an optimizer, without being exported again. Inputs are named as PEFT names
//! the parameters, without the `unet.` prefix.
//!
//! In the gradient graph the factors get a batch axis ([`Graph::per_sample`]) so that the gradient
//! with respect to them comes out per sample.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{Error, Result};
use crate::family::ports::unet;
use crate::graph::{DType, Data, Dim, Graph, Value};
use crate::lora::{LoraModule, LoraSpec};

/// The LoRA inputs of one graph, made as the targeted layers are built.
#[derive(Debug)]
pub struct Lora {
    spec: LoraSpec,
    /// `lora_scale` [], 1 by default; none in a graph that is made for one job.
    scale: Option<Value>,
    /// The type of the factors' inputs.
    stored: DType,
    /// Layers' inputs in the type that the factors are multiplied in: what several layers read changes type once.
    inputs: RefCell<HashMap<Value, Value>>,
    /// The batch axis to give the factors, in a gradient graph.
    batch: Option<Dim>,
    sites: RefCell<Vec<Site>>,
}

/// One targeted layer.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) module: LoraModule,
    /// A and B as the layer uses them: [r, in] and [out, r], or with a leading batch axis.
    pub(super) factors: [Value; 2],
    target: usize,
}

impl Lora {
    /// Adds the input `lora_scale`; the factors' inputs follow as layers are built. With `batch`,
    /// the factors get that leading axis. A graph that is made for one job has no `lora_scale`, no default for
    /// the factors, and takes them in `compute`'s type unless it trains them.
    ///
    /// # Errors
    /// A rank of 0, or a name that the graph has already.
    pub fn new(g: &mut Graph, spec: LoraSpec, compute: DType, batch: Option<Dim>) -> Result<Self> {
        if spec.rank == 0 {
            return Err(Error::LoraTarget {
                target: spec.targets.join(","),
                problem: "the rank must be at least 1",
            });
        }
        let job = g.is_made_for_one();
        let one = || Data::Inline(1_f32.to_le_bytes().into());
        let scale = match job {
            true => None,
            false => Some(g.input_with_default(unet::LORA_SCALE, DType::F32, &[], one())?),
        };
        Ok(Self {
            spec,
            scale,
            stored: match job && batch.is_none() {
                true => compute,
                false => DType::F32,
            },
            inputs: RefCell::default(),
            batch,
            sites: RefCell::default(),
        })
    }

    /// The layers that were targeted, in the order they were built.
    pub fn modules(&self) -> Vec<LoraModule> {
        self.sites
            .borrow()
            .iter()
            .map(|site| site.module.clone())
            .collect()
    }

    pub(super) fn sites(&self) -> Vec<Site> {
        self.sites.borrow().clone()
    }

    /// Refuses a target that no layer matched: a misspelt name would train nothing, silently.
    pub(super) fn check_targets(&self) -> Result<()> {
        let sites = self.sites.borrow();
        for (index, target) in self.spec.targets.iter().enumerate() {
            if !sites.iter().any(|site| site.target == index) {
                let problem = "no linear layer has this name";
                return Err(Error::LoraTarget {
                    target: target.clone(),
                    problem,
                });
            }
        }
        Ok(())
    }

    /// A targeted convolution is an error: its adapters have another form.
    pub(super) fn refuse_convolution(&self, path: &str) -> Result<()> {
        if self.spec.covers(path) {
            let problem = "it is a convolution; only linear layers take LoRA";
            return Err(Error::LoraTarget {
                target: path.to_owned(),
                problem,
            });
        }
        Ok(())
    }

    /// What the adapter of the layer at `path` adds to its output [.., out] for the input `x`
    /// [.., in]; nothing if the layer isn't targeted.
    pub(super) fn change(
        &self,
        g: &mut Graph,
        path: &str,
        x: Value,
        out: u64,
    ) -> Result<Option<Value>> {
        let Some(target) = self.spec.target_of(path) else {
            return Ok(None);
        };
        let [a, b] = self.factors(g, path, target, x, out)?;
        let compute = g.dtype(x);
        // Young factors are far below what half precision resolves, and so are the gradients that
        // they scale: training computes this thin branch in f32.
        let dtype = match self.batch {
            Some(_) => DType::F32,
            None => compute,
        };
        let x = self.input(g, x, dtype)?;
        let mut y_shape = g.shape(x).to_vec();
        if let Some(width) = y_shape.last_mut() {
            *width = out.into();
        }
        // A factor per sample needs an axis between batch and features.
        let lift = self.batch.is_some() && g.rank(x) == 2;
        let x = if lift { with_middle_axis(g, x)? } else { x };
        let mut down = product(g, x, a, dtype)?;
        if let Some(scale) = self.scale {
            let scale = g.cast(scale, dtype)?;
            down = g.mul(down, scale)?;
        }
        let up = product(g, down, b, dtype)?;
        let up = g.cast(up, compute)?;
        Ok(Some(g.reshape(up, &y_shape)?))
    }

    /// A layer's input in another type. A gradient then comes back through one change of type; a graph that
    /// anybody may run has one for each layer, until equal ones are merged.
    fn input(&self, g: &mut Graph, x: Value, dtype: DType) -> Result<Value> {
        if !g.is_made_for_one() {
            return Ok(g.cast(x, dtype)?);
        }
        if let Some(&known) = self.inputs.borrow().get(&x) {
            return Ok(known);
        }
        let made = g.cast(x, dtype)?;
        self.inputs.borrow_mut().insert(x, made);
        Ok(made)
    }

    fn factors(
        &self,
        g: &mut Graph,
        path: &str,
        target: usize,
        x: Value,
        out: u64,
    ) -> Result<[Value; 2]> {
        if let Some(site) = self
            .sites
            .borrow()
            .iter()
            .find(|site| site.module.path == path)
        {
            return Ok(site.factors);
        }
        let module = LoraModule {
            path: path.to_owned(),
            in_features: g.shape(x).last().and_then(Dim::fixed).unwrap_or(0),
            out_features: out,
        };
        let shapes = [
            [self.spec.rank, module.in_features],
            [module.out_features, self.spec.rank],
        ];
        let mut factors = Vec::with_capacity(2);
        for (name, shape) in [module.input_a(), module.input_b()].into_iter().zip(shapes) {
            let shape = shape.map(Dim::from);
            let value = match g.is_made_for_one() {
                true => g.input(&name, self.stored, &shape)?,
                false => g.input_with_default(&name, self.stored, &shape, Data::Zeros)?,
            };
            factors.push(match &self.batch {
                Some(batch) => g.per_sample(value, batch)?,
                None => value,
            });
        }
        let factors = [factors[0], factors[1]];
        self.sites.borrow_mut().push(Site {
            module,
            factors,
            target,
        });
        Ok(factors)
    }
}

/// `x · factorᵀ` for a factor [out, in] or [B, out, in].
fn product(g: &mut Graph, x: Value, factor: Value, dtype: DType) -> Result<Value> {
    let mut perm: Vec<usize> = (0..g.rank(factor)).collect();
    perm.reverse();
    if perm.len() == 3 {
        perm = vec![0, 2, 1];
    }
    let transposed = g.transpose(factor, &perm)?;
    let transposed = g.cast(transposed, dtype)?;
    Ok(g.matmul(x, transposed)?)
}

/// [B, n] to [B, 1, n].
fn with_middle_axis(g: &mut Graph, x: Value) -> Result<Value> {
    let shape = [
        g.shape(x)[0].clone(),
        Dim::from(1_u64),
        g.shape(x)[1].clone(),
    ];
    Ok(g.reshape(x, &shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_whole_names_at_the_end() {
        let spec = LoraSpec::default();
        assert!(spec.covers("mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"));
        assert!(spec.covers("to_q"));
        assert!(!spec.covers("attn1.into_q"));
        assert!(!spec.covers("attn1.to_q.extra"));
    }
}
