//! What a step trains on: pairs, time steps, noise addresses, and their arrays.

use super::Result;
use crate::data::dataset::Dataset;
use crate::data::pairs::{Pair, Pairs};
use crate::device::philox::{Purpose, Stream};
use crate::diffusion::schedule::{Prediction, SchedulerConfig};

/// One side of a pair at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Number of the pair in the list.
    pub pair: usize,
    /// Whether it is the winner.
    pub winner: bool,
    /// Row of the picture in the data set.
    pub row: usize,
    /// Training time step, the same for both sides.
    pub timestep: usize,
    /// The free words of the noise's address, the same for both sides.
    pub noise: (u32, u32),
}

/// Data and noise schedule of a run.
#[derive(Debug)]
pub struct Source {
    dataset: Dataset,
    pairs: Pairs,
    /// √ᾱ and √(1−ᾱ) of every training time step.
    signal: Vec<f32>,
    sigma: Vec<f32>,
    v_prediction: bool,
}

/// The host arrays of some samples.
#[derive(Debug, Default)]
pub struct Arrays {
    /// Clean latents, [n, C, h, w].
    pub latents: Vec<f32>,
    /// Text embeddings, [n, tokens, width].
    pub prompt_embeds: Vec<f32>,
    /// Pooled embeddings, [n, length]; empty for models without.
    pub pooled: Vec<f32>,
    /// Time steps.
    pub timesteps: Vec<i64>,
    /// Noise addresses.
    pub addresses: Vec<(u32, u32)>,
    /// √ᾱ of each sample.
    pub signal: Vec<f32>,
    /// √(1−ᾱ) of each sample.
    pub sigma: Vec<f32>,
}

impl Source {
    /// Joins a data set, its pairs and the model's noise schedule.
    ///
    /// # Errors
    /// Latents or embeddings of a pair that the data set's files lack, or that have another shape
    /// than its manifest says: better now than hours into a run.
    pub fn new(dataset: Dataset, pairs: Pairs, scheduler: &SchedulerConfig) -> Result<Self> {
        for (index, rows) in pairs.rows.iter().enumerate() {
            dataset.embeddings(pairs.caption_id(index))?;
            for &row in rows {
                dataset.latents(row)?;
            }
        }
        let alphas = scheduler.alphas_cumprod();
        Ok(Self {
            dataset,
            pairs,
            signal: alphas.iter().map(|a| a.sqrt()).collect(),
            sigma: alphas.iter().map(|a| (1.0 - a).sqrt()).collect(),
            v_prediction: scheduler.prediction == Prediction::VPrediction,
        })
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The pairs.
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// The pair of a sample.
    pub fn pair(&self, sample: &Sample) -> &Pair {
        &self.pairs.list[sample.pair]
    }

    /// Whether the network predicts v instead of epsilon.
    pub fn v_prediction(&self) -> bool {
        self.v_prediction
    }

    /// The samples of a step (from 0), winner before loser, pair after pair. The list of pairs is
    /// gone through in order, again and again. A pair has one time step, uniform over the training
    /// steps and addressed by the step and its place in the batch, and one noise.
    pub fn step(&self, seed: u64, step: u32, pairs_per_step: usize) -> Vec<Sample> {
        let first = step as usize * pairs_per_step;
        let mut samples = Vec::with_capacity(2 * pairs_per_step);
        for place in 0..pairs_per_step {
            let pair = (first + place) % self.pairs.list.len();
            let mut stream = Stream::new(seed, Purpose::TrainTimestep, place as u32, 0, step);
            let timestep = stream.below(self.signal.len() as u32) as usize;
            for (side, &row) in self.pairs.rows[pair].iter().enumerate() {
                samples.push(Sample {
                    pair,
                    winner: side == 0,
                    row,
                    timestep,
                    noise: (place as u32, 0),
                });
            }
        }
        samples
    }

    /// The arrays of samples.
    ///
    /// # Errors
    /// A file of the data set that cannot be read.
    pub fn arrays(&self, samples: &[Sample]) -> Result<Arrays> {
        let mut arrays = Arrays::default();
        for sample in samples {
            let text = self
                .dataset
                .embeddings(self.pairs.caption_id(sample.pair))?;
            arrays
                .latents
                .extend_from_slice(self.dataset.latents(sample.row)?);
            arrays.prompt_embeds.extend_from_slice(text.prompt_embeds);
            arrays
                .pooled
                .extend_from_slice(text.pooled.unwrap_or_default());
            arrays.timesteps.push(sample.timestep as i64);
            arrays.addresses.push(sample.noise);
            arrays.signal.push(self.signal[sample.timestep]);
            arrays.sigma.push(self.sigma[sample.timestep]);
        }
        Ok(arrays)
    }
}
