//! What a step trains on: pairs, time steps, noise addresses, and their arrays.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::config::Config;
use super::online::{self, Drawn, Round};
use super::order::Order;
use super::timesteps::Timesteps;
use super::{Error, Result};
use crate::data::dataset::{Embeddings, Kind, Shape};
use crate::data::pairs::Pairs;
use crate::data::pool::Pool;
use crate::diffusion::schedule::{Prediction, SchedulerConfig};
use crate::diffusion::text::Embedding;
use crate::prompts::caption_id;
use crate::random::{Purpose, Stream};

/// What a picture is in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The preferred picture of a pair.
    Winner,
    /// The other picture of a pair.
    Loser,
    /// A picture that the run has drawn (`--online`).
    Drawn,
    /// A picture whose own caption is to keep drawing it (`--preserve`).
    Preserved,
}

/// A picture with the caption it is trained under, at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// What it is there for.
    pub role: Role,
    /// Row of the picture in the data set; of one that the run has drawn its place in the round.
    pub row: usize,
    /// Number of the draw that its pair came from; 0 for a picture without a pair.
    pub draw: u32,
    /// Id of the caption.
    pub caption_id: u32,
    /// Training time step, the same for both sides of a pair.
    pub timestep: usize,
    /// The free words of the noise's address, the same for both sides of a pair.
    pub noise: (u32, u32),
    /// What its term of the loss is multiplied with.
    pub weight: f32,
}

/// Data and noise schedule of a run.
#[derive(Debug)]
pub struct Source {
    pool: Pool,
    pairs: Pairs,
    order: Order,
    /// Rows that preservation draws from.
    preserved: Vec<usize>,
    /// What the round under way has drawn, and the advantage of each.
    drawn: Vec<(Drawn, f32)>,
    /// What the pictures of a round count, and what the advantage is divided by.
    strength: f32,
    /// √ᾱ and √(1−ᾱ) of every training time step.
    signal: Vec<f32>,
    sigma: Vec<f32>,
    v_prediction: bool,
    /// Training time steps that samples may have, and how they are spread.
    timesteps: Range<usize>,
    spread: Timesteps,
    /// What the pairs' terms count at every training time step.
    weights: Vec<f32>,
    /// Share of pairs that lose their caption, which then is the empty one.
    dropout: f64,
    empty: Option<Embedding>,
    empty_id: u32,
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
    /// Joins data sets, their pairs and the model's noise schedule. `empty` is the empty caption, where
    /// captions are dropped.
    ///
    /// # Errors
    /// Latents or embeddings of a picture to train on that the data set's files lack, or that have another shape
    /// than its manifest says: better now than hours into a run. [`Error::Option`] if the schedule
    /// has no such time steps, [`Error::NothingToPreserve`].
    pub fn new(
        pool: Pool,
        pairs: Pairs,
        scheduler: &SchedulerConfig,
        config: &Config,
        empty: Option<Embedding>,
    ) -> Result<Self> {
        for (index, rows) in pairs.rows.iter().enumerate() {
            pool.embeddings(pairs.caption_id(index))?;
            for &row in rows {
                pool.latents(row)?;
            }
        }
        let order = Order {
            pairs: pairs.list.len(),
            set: config.together(),
            shuffled: config.epochs.map(|_| config.pair_seed),
        };
        let preserved = match config.preserved_per_step() > 0 {
            true => preserved(&pool, &pairs)?,
            false => Vec::new(),
        };
        let alphas = scheduler.alphas_cumprod();
        let timesteps = config.timesteps(alphas.len())?;
        let weight = |&alpha: &f32| config.weight_at(alpha, scheduler.prediction);
        Ok(Self {
            pool,
            pairs,
            order,
            preserved,
            drawn: Vec::new(),
            strength: config.online.map_or(1.0, |online| online.strength) as f32,
            signal: alphas.iter().map(|a| a.sqrt()).collect(),
            sigma: alphas.iter().map(|a| (1.0 - a).sqrt()).collect(),
            v_prediction: scheduler.prediction == Prediction::VPrediction,
            timesteps,
            spread: config.spread,
            weights: alphas.iter().map(weight).collect(),
            dropout: config.caption_dropout,
            empty,
            empty_id: caption_id(""),
        })
    }

    /// The data sets.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The pairs.
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// The empty caption's id and embeddings, where captions are dropped.
    pub fn empty(&self) -> Option<(u32, &Embedding)> {
        Some((self.empty_id, self.empty.as_ref()?))
    }

    /// How many pairs of the list each draw has.
    pub fn draws(&self) -> BTreeMap<u32, u32> {
        let mut sizes = BTreeMap::new();
        for pair in &self.pairs.list {
            *sizes.entry(pair.draw).or_default() += 1;
        }
        sizes
    }

    /// Whether the network predicts v instead of epsilon.
    pub fn v_prediction(&self) -> bool {
        self.v_prediction
    }

    /// The pairs' samples of a step (from 0), winner before loser, pair after pair. The list of
    /// pairs is gone through again and again. A pair has one time step, within the
    /// run's range and addressed by the step and its place in the batch, one noise, and one caption, which
    /// is dropped for both sides by the same kind of address; a set that stays together drops it as one.
    pub fn step(&self, seed: u64, step: u32, pairs_per_step: usize) -> Vec<Sample> {
        let first = step as usize * pairs_per_step;
        let mut samples = Vec::with_capacity(2 * pairs_per_step);
        for (place, pair) in self
            .order
            .visits(first, pairs_per_step)
            .into_iter()
            .enumerate()
        {
            let mut stream = Stream::new(seed, Purpose::TrainTimestep, place as u32, 0, step);
            let timestep = self.timestep(&mut stream);
            let listed = &self.pairs.list[pair];
            let caption_id = match self.drops(seed, step, place) {
                true => self.empty_id,
                false => self.pairs.caption_id(pair),
            };
            for (role, &row) in [Role::Winner, Role::Loser]
                .iter()
                .zip(&self.pairs.rows[pair])
            {
                samples.push(Sample {
                    role: *role,
                    row,
                    draw: listed.draw,
                    caption_id,
                    timestep,
                    noise: (place as u32, 0),
                    weight: listed.weight * self.weights[timestep],
                });
            }
        }
        samples
    }

    /// Takes the pictures of a round.
    pub fn set_drawn(&mut self, pictures: Vec<Drawn>, targets: &[Vec<f64>]) {
        let advantages = online::advantages(&pictures, targets);
        self.drawn = pictures.into_iter().zip(advantages).collect();
    }

    /// `count` pictures of the round that a step (from 0) is in; those of a group have one time step and noise.
    pub fn drawn(&self, seed: u64, step: u32, round: Round, count: usize) -> Vec<Sample> {
        let visits = round.visits(seed, step, count, self.drawn.len());
        let sample = |(place, row): (usize, usize)| {
            let group = (place / online::GROUP) as u32;
            let mut stream = Stream::new(seed, Purpose::TrainTimestep, group, 0, step);
            Sample {
                role: Role::Drawn,
                row,
                draw: 0,
                caption_id: self.drawn[row].0.caption_id,
                timestep: self.timestep(&mut stream),
                noise: (group, 0),
                weight: self.strength * self.strength,
            }
        };
        visits.into_iter().enumerate().map(sample).collect()
    }

    /// The advantage of a picture of a round.
    pub fn advantage(&self, sample: &Sample) -> Option<f32> {
        let drawn = sample.role == Role::Drawn;
        drawn.then(|| self.drawn[sample.row].1)
    }

    /// How far a sample's target is moved from what drew it; nothing where it stays.
    pub fn pull(&self, sample: &Sample) -> Option<f32> {
        Some(self.advantage(sample)? / self.strength)
    }

    /// The id of the caption that a sample's picture was drawn for, and its number among that caption's.
    pub fn picture(&self, sample: &Sample) -> (u32, u32) {
        match sample.role {
            Role::Drawn => (sample.caption_id, self.drawn[sample.row].0.image_id),
            _ => {
                let row = self.pool.row(sample.row);
                (row.prompt_id, row.image_id)
            }
        }
    }

    /// What a sample's picture may share a batch with: those that are drawn have the first set's shape.
    pub fn shape(&self, sample: &Sample) -> Shape {
        match sample.role {
            Role::Drawn => self.pool.sets()[0].shape(),
            _ => self.pool.shape(sample.row),
        }
    }

    /// A sample's clean latents, [C, h, w].
    fn latents(&self, sample: &Sample) -> Result<&[f32]> {
        match sample.role {
            Role::Drawn => Ok(&self.drawn[sample.row].0.latents),
            _ => Ok(self.pool.latents(sample.row)?),
        }
    }

    /// Whether the pair at a place of a step's batch is trained without its caption.
    fn drops(&self, seed: u64, step: u32, place: usize) -> bool {
        let set = (place / self.order.set) as u32;
        let mut stream = Stream::new(seed, Purpose::CaptionDropout, set, 0, step);
        self.dropout > 0.0 && f64::from(stream.unit()) < self.dropout
    }

    /// `count` pictures under their own captions, drawn with replacement, each with its own time
    /// step and noise; none in a run that preserves nothing.
    pub fn preserve(&self, seed: u64, step: u32, count: usize) -> Vec<Sample> {
        let rows = self.preserved.len() as u32;
        let places = if rows == 0 { 0 } else { count as u32 };
        let sample = |place| {
            let mut stream = Stream::new(seed, Purpose::TrainTimestep, place, 1, step);
            let row = self.preserved[stream.below(rows) as usize];
            Sample {
                role: Role::Preserved,
                row,
                draw: 0,
                caption_id: self.pool.row(row).prompt_id,
                timestep: self.timestep(&mut stream),
                noise: (place, 1),
                weight: 1.0,
            }
        };
        (0..places).map(sample).collect()
    }

    /// The caption a sample is trained under.
    pub fn caption(&self, sample: &Sample) -> &str {
        if sample.role == Role::Drawn {
            let mut rows = self.pool.rows();
            let named = rows.find(|row| row.prompt_id == sample.caption_id);
            return named.map_or("", |row| &row.prompt);
        }
        let row = self.pool.row(sample.row);
        if sample.role == Role::Preserved {
            return &row.prompt;
        }
        if self.empty.is_some() && sample.caption_id == self.empty_id {
            return "";
        }
        // A list of pairs may train a picture under another subject's caption.
        let mut pairs = self.pairs.list.iter();
        pairs
            .find(|pair| caption_id(&pair.caption) == sample.caption_id)
            .map_or(&row.neutral_prompt, |pair| &pair.caption)
    }

    fn timestep(&self, stream: &mut Stream) -> usize {
        self.spread.draw(&self.timesteps, stream)
    }

    /// A caption's embeddings.
    fn embeddings(&self, id: u32) -> Result<Embeddings<'_>> {
        match &self.empty {
            Some(empty) if id == self.empty_id => Ok(Embeddings {
                shape: self.pool.sets()[0].manifest().layout.prompt_embeds,
                prompt_embeds: &empty.prompt_embeds,
                pooled: empty.pooled.as_deref(),
            }),
            _ => Ok(self.pool.embeddings(id)?),
        }
    }

    /// The arrays of samples, which have one shape.
    ///
    /// # Errors
    /// A file of the data set that cannot be read.
    pub fn arrays(&self, samples: &[Sample]) -> Result<Arrays> {
        let mut arrays = Arrays::default();
        for sample in samples {
            let text = self.embeddings(sample.caption_id)?;
            arrays.latents.extend_from_slice(self.latents(sample)?);
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

/// The pictures that no pair changes the meaning of: those of captions that name an identity, and
/// those of subjects that have no pairs.
fn preserved(dataset: &Pool, pairs: &Pairs) -> Result<Vec<usize>> {
    let trained: HashSet<u32> = (0..pairs.list.len()).map(|i| pairs.caption_id(i)).collect();
    let mut rows = Vec::new();
    for (index, row) in dataset.kept() {
        if row.kind == Kind::Specific || !trained.contains(&row.prompt_id) {
            dataset.embeddings(row.prompt_id)?;
            dataset.latents(index)?;
            rows.push(index);
        }
    }
    if rows.is_empty() {
        return Err(Error::NothingToPreserve {
            dir: dataset.dir().to_path_buf(),
        });
    }
    Ok(rows)
}
