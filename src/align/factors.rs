//! The LoRA factors being trained: which there are, where they lie, how they start.

use std::collections::BTreeMap;

use super::config::LoraInit;
use super::{Error, Result};
use crate::bundle::LoraInfo;
use crate::device::Layout;
use crate::lora::{self, Factors, Fitted, LoraAdapter, LoraModule};
use crate::prompts::caption_id;
use crate::random;
use crate::random::Purpose;

/// One factor: a graph input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    /// The input's name: `<module>.lora_A.weight`.
    pub name: String,
    /// Its dimensions at the graph's rank.
    pub shape: [usize; 2],
}

/// All factors in one flat buffer, A and B of a module after each other.
///
/// Buffers have the graph's rank. A run of a lower rank starts with the rest of both factors at
/// zero; their gradients are then exactly zero and they stay so.
#[derive(Debug, Clone)]
pub struct FactorSet {
    modules: Vec<LoraModule>,
    list: Vec<Factor>,
    layout: Layout,
    rank: usize,
    alpha: f32,
    graph_rank: usize,
    /// An adapter that a run goes on from.
    from: Option<LoraAdapter>,
}

impl FactorSet {
    /// The factors of a bundle's LoRA layers for a run of rank `rank`.
    ///
    /// # Errors
    /// [`Error::Rank`] if the graph's rank is lower.
    pub fn new(lora: &LoraInfo, rank: usize) -> Result<Self> {
        let graph_rank = lora.rank as usize;
        if rank > graph_rank {
            return Err(Error::Rank {
                rank,
                limit: lora.rank,
            });
        }
        let list: Vec<Factor> = lora
            .modules
            .iter()
            .flat_map(|m| {
                let a = [graph_rank, m.in_features as usize];
                let b = [m.out_features as usize, graph_rank];
                [(m.input_a(), a), (m.input_b(), b)]
            })
            .map(|(name, shape)| Factor { name, shape })
            .collect();
        let layout = Layout::new(list.iter().map(|f| f.shape[0] * f.shape[1]));
        Ok(Self {
            modules: lora.modules.clone(),
            list,
            layout,
            rank,
            alpha: rank as f32,
            graph_rank,
            from: None,
        })
    }

    /// The same with another alpha than the rank.
    #[must_use]
    pub fn with_alpha(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }

    /// The same for a run that starts as an adapter, whatever its alpha.
    ///
    /// # Errors
    /// [`lora::Error`] if it changes a layer that has no LoRA here, or its rank is above the run's.
    pub fn going_on_from(self, adapter: LoraAdapter) -> lora::Result<Self> {
        let mut ranks = adapter.modules.iter();
        if let Some((module, factors)) = ranks.find(|(_, f)| f.rank > self.rank) {
            return Err(lora::Error::RunRank {
                module: module.clone(),
                found: factors.rank,
                limit: self.rank,
            });
        }
        adapter.fit(&self.modules, self.graph_rank)?;
        let from = Some(adapter);
        Ok(Self { from, ..self })
    }

    /// A hash of what the run goes on from, as `pa-datagen` writes it of its LoRA; none of a run from nothing.
    pub fn from_sha256(&self) -> Result<Option<String>> {
        let fitted = |from: &LoraAdapter| from.fit(&self.modules, self.graph_rank);
        let fitted = self.from.as_ref().map(fitted).transpose()?;
        Ok(fitted.map(|fitted| fitted.sha256()))
    }

    /// What the product of a module's factors is multiplied with. The graph has no such number: what it is
    /// fed as B is multiplied before, and B's gradient after.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// The factors in the order of the buffer.
    pub fn list(&self) -> &[Factor] {
        &self.list
    }

    /// Their places.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Trained parameters, at the run's rank.
    pub fn parameters(&self) -> usize {
        self.layout.total() / self.graph_rank * self.rank
    }

    /// Each factor with its part of a buffer.
    pub fn parts<'a, T>(&'a self, buffer: &'a [T]) -> impl Iterator<Item = (&'a Factor, &'a [T])> {
        let part = |(m, factor)| (factor, &buffer[self.layout.range(m)]);
        self.list.iter().enumerate().map(part)
    }

    /// Initial values: A random at an address of its module's path, B zero; over them what the run goes on
    /// from.
    pub fn init(&self, kind: LoraInit, seed: u64) -> Vec<f32> {
        let mut buffer = vec![0.0; self.layout.total()];
        for (i, module) in self.modules.iter().enumerate() {
            let inputs = module.in_features as usize;
            let start = self.layout.range(2 * i).start;
            let a = &mut buffer[start..start + self.rank * inputs];
            let id = caption_id(&module.path);
            match kind {
                LoraInit::Gaussian => {
                    random::normal(seed, Purpose::LoraInit, id, 0, 0, a);
                    let deviation = 1.0 / self.rank as f32;
                    a.iter_mut().for_each(|x| *x *= deviation);
                }
                LoraInit::Kaiming => {
                    // kaiming_uniform_ with a = sqrt 5: a bound of 1 / sqrt(fan in).
                    let bound = 1.0 / (inputs as f32).sqrt();
                    let mut stream = random::Stream::new(seed, Purpose::LoraInit, id, 1, 0);
                    a.iter_mut()
                        .for_each(|x| *x = (2.0 * stream.unit() - 1.0) * bound);
                }
            }
            let from = self.from.as_ref().and_then(|l| l.modules.get(&module.path));
            if let Some(factors) = from {
                self.put(factors, i, &mut buffer);
            }
        }
        buffer
    }

    /// Writes a module's factors into a buffer. Of a lower rank than the run's they leave the rest of A
    /// random and of B zero, so that it can learn.
    fn put(&self, factors: &Factors, module: usize, buffer: &mut [f32]) {
        let a = self.layout.range(2 * module).start;
        buffer[a..a + factors.a.len()].copy_from_slice(&factors.a);
        let scale = factors.alpha / factors.rank as f32 / self.scale();
        let rows = buffer[self.layout.range(2 * module + 1)].chunks_exact_mut(self.graph_rank);
        for (row, own) in rows.zip(factors.b.chunks_exact(factors.rank)) {
            for (to, from) in row.iter_mut().zip(own) {
                *to = from * scale;
            }
        }
    }

    /// The adapter of a buffer, cut to the run's rank.
    pub fn adapter(&self, buffer: &[f32]) -> LoraAdapter {
        let of = |(i, module): (usize, &LoraModule)| {
            let inputs = module.in_features as usize;
            let a = &buffer[self.layout.range(2 * i)][..self.rank * inputs];
            let b = &buffer[self.layout.range(2 * i + 1)];
            let factors = Factors {
                a: a.to_vec(),
                b: b.chunks_exact(self.graph_rank)
                    .flat_map(|row| &row[..self.rank])
                    .copied()
                    .collect(),
                rank: self.rank,
                alpha: self.alpha,
            };
            (module.path.clone(), factors)
        };
        let modules: BTreeMap<String, Factors> = self.modules.iter().enumerate().map(of).collect();
        LoraAdapter { modules }
    }

    /// A buffer as inputs of the bundle's graphs that draw.
    ///
    /// # Errors
    /// None: the factors are the graphs' own.
    pub fn fitted(&self, buffer: &[f32]) -> Result<Fitted> {
        Ok(self.adapter(buffer).fit(&self.modules, self.graph_rank)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> LoraInfo {
        let module = |path: &str| LoraModule {
            path: path.to_owned(),
            in_features: 500,
            out_features: 3,
        };
        LoraInfo {
            rank: 8,
            targets: vec!["to_q".to_owned()],
            modules: vec![module("a.to_q"), module("b.to_q")],
        }
    }

    #[test]
    fn initial_factors_are_peft_s() {
        for (kind, deviation) in [
            (LoraInit::Gaussian, 1.0 / 4.0),
            (LoraInit::Kaiming, 1.0 / (3.0f64 * 500.0).sqrt()),
        ] {
            let set = FactorSet::new(&info(), 4).unwrap();
            let buffer = set.init(kind, 3);
            let a = &buffer[..4 * 500];
            let square: f64 = a.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 2000.0;
            // 2,000 draws: three standard errors of the deviation are 5%.
            assert!((square.sqrt() / deviation - 1.0).abs() < 0.05, "{kind:?}");
            assert!(
                buffer[4 * 500..8 * 500].iter().all(|&x| x == 0.0),
                "rows above the rank"
            );
            let second = set.layout().range(2);
            assert_ne!(a, &buffer[second][..2000], "modules differ");
            assert_eq!(set.parameters(), 2 * 4 * 503);
            let adapter = set.adapter(&buffer);
            assert_eq!(adapter.modules["a.to_q"].a, a);
            assert_eq!(adapter.modules["a.to_q"].b, [0.0; 12]);
        }
    }

    #[test]
    fn a_rank_above_the_bundle_s_is_an_error() {
        let error = FactorSet::new(&info(), 9).unwrap_err();
        assert!(
            matches!(error, Error::Rank { rank: 9, limit: 8 }),
            "{error}"
        );
    }
}
