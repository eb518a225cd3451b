//! The training step, on any device and with any network.
//!
//! A global batch is cut into micro-batches for the network. Their per-sample gradients are kept
//! until the errors of the whole batch are known (or, where memory is short, computed again); only
//! then has the offset μ of the loss its true value and every sample its factor. The factors stay on
//! the device: the host reads the errors, a summary for the log and the gradient's norm. The gradients are then
//! added sample by sample, so the cut does not change the sum: where the network itself gives the same
//! bits for a sample in any batch, so does the run. (ONNX Runtime's CPU provider usually doesn't: its
//! matrix products block differently for different batch sizes. The results then agree to rounding.) A
//! micro-batch holds pictures of one size.

mod blame;
mod rounds;

use std::collections::BTreeMap;

use super::config::Config;
use super::draws::{Draws, Seen};
use super::factors::FactorSet;
use super::model::{Batch, GradientModel, Gradients};
use super::online::Artist;
use super::ranks::{self, Ranks};
pub use super::record::{Record, Report};
use super::source::{Role, Sample, Source};
use super::watch::{Signs, Watch};
use super::{Error, Result};
use crate::data::dataset::Shape;
use crate::device::{self, Clip, Device, Diffuse, HostState, Link, Loss, Moments, State, Summary};
use crate::random::Purpose;

/// What a run is made of.
#[derive(Debug)]
pub struct Settings<D, M> {
    /// Where the step is computed.
    pub device: D,
    /// The network.
    pub model: M,
    /// Its factors.
    pub factors: FactorSet,
    /// The configuration.
    pub config: Config,
    /// The data.
    pub source: Source,
    /// Samples the network takes at once.
    pub micro_batch: usize,
    /// Bytes of gradients kept until the errors of the whole batch are known.
    pub grad_memory: u64,
    /// The processes that share the run.
    pub ranks: Box<dyn Ranks>,
    /// Who draws the pictures of rounds, in a run of some.
    pub artist: Option<Box<dyn Artist>>,
}

/// A run in memory.
#[derive(Debug)]
pub struct Trainer<D: Device, M> {
    /// Where the step is computed.
    pub device: D,
    /// The network.
    pub model: M,
    /// Its factors.
    pub factors: FactorSet,
    /// The configuration.
    pub config: Config,
    /// The data.
    pub source: Source,
    /// Samples the network takes at once.
    pub micro_batch: usize,
    /// The processes that share the run.
    pub ranks: Box<dyn Ranks>,
    /// Bytes of gradients kept until the errors of the whole batch are known. The network runs again
    /// for micro-batches whose gradients have no room: ONNX Runtime computes the gradients anyway, so
    /// a first run for the errors alone would save nothing.
    pub grad_memory: u64,
    /// The way from device to device, where there is one.
    link: Option<Box<dyn Link<D::Buffer>>>,
    state: State<D::Buffer, D::Bytes>,
    ema: Option<D::Buffer>,
    /// What the graph is fed instead of the factors, where their product counts other than once.
    fed: Option<D::Buffer>,
    done: u32,
    watch: Watch,
    draws: Draws,
    artist: Option<Box<dyn Artist>>,
    /// The number of the round whose pictures there are.
    round: Option<u32>,
    /// What the round under way is drawn with.
    old: Option<Vec<f32>>,
}

/// The gradients of each micro-batch, where there was room for them.
type Kept<D> = Vec<Option<<D as Device>::Buffer>>;

/// The numbers of a run at rest, on the host: what a checkpoint holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Updates done.
    pub step: u32,
    /// Factors and the optimizer's moments.
    pub state: HostState,
    /// Average of the factors, if one is kept.
    pub ema: Option<Vec<f32>>,
    /// Since when the run is in doubt, if it is.
    pub watch: Watch,
    /// Draws with pairs still to come.
    pub draws: BTreeMap<u32, Seen>,
    /// The factors that the round under way was drawn with, in a run of rounds.
    pub old: Option<Vec<f32>>,
}

impl<D: Device, M: GradientModel<D>> Trainer<D, M> {
    /// A run at step 0 with initial factors.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(settings: Settings<D, M>) -> Result<Self> {
        let Settings {
            device,
            model,
            factors,
            config,
            source,
            micro_batch,
            grad_memory,
            mut ranks,
            artist,
        } = settings;
        let link = ranks::link(ranks.as_mut(), &device)?;
        let p = factors.init(config.init, config.seed);
        let moments = config.optimizer.moments(factors.layout(), &p);
        let start = State { p, moments };
        let state = start.try_map(|x| device.upload(x), |x| device.upload_bytes(x))?;
        let ema = config.ema.map(|_| device.upload(&start.p)).transpose()?;
        let draws = Draws::new(source.draws());
        let mut trainer = Self {
            device,
            model,
            factors,
            config,
            source,
            micro_batch: micro_batch.max(1),
            ranks,
            grad_memory,
            link,
            state,
            ema,
            fed: None,
            done: 0,
            watch: Watch::default(),
            draws,
            artist,
            round: None,
            old: None,
        };
        trainer.feed()?;
        Ok(trainer)
    }

    /// Makes what the graph is fed of the factors.
    fn feed(&mut self) -> Result<()> {
        self.fed = self.scaled(&self.state.p)?;
        Ok(())
    }

    /// A buffer whose B counts what the LoRA's alpha says; none where that is the buffer itself.
    fn scaled(&self, buffer: &D::Buffer) -> Result<Option<D::Buffer>> {
        let (layout, scale) = (self.factors.layout(), self.factors.scale());
        let scaled = || self.device.scale(buffer, layout, scale);
        Ok((scale != 1.0).then(scaled).transpose()?)
    }

    /// Updates done.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Updates that were done when the run came into doubt, if it is.
    pub fn doubt(&self) -> Option<u32> {
        self.watch.since()
    }

    /// Copies the run's numbers to the host.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let get = |buffer: &D::Buffer| self.device.download(buffer);
        Ok(Snapshot {
            step: self.done,
            state: self.state.try_map(get, |x| self.device.download_bytes(x))?,
            ema: self.ema.as_ref().map(get).transpose()?,
            watch: self.watch,
            draws: self.draws.open().clone(),
            old: self.old.clone(),
        })
    }

    /// The run's numbers, which all ranks hold alike.
    ///
    /// # Errors
    /// [`Error::Diverged`]; when the device refuses.
    pub fn agree(&mut self) -> Result<Snapshot> {
        let snapshot = self.snapshot()?;
        ranks::agree(self.ranks.as_mut(), &snapshot.state.p, self.done)?;
        Ok(snapshot)
    }

    /// The factors that the run would end with now: their average, if one is kept.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn result(&self) -> Result<Vec<f32>> {
        Ok(self
            .device
            .download(self.ema.as_ref().unwrap_or(&self.state.p))?)
    }

    /// Goes on from numbers taken by [`Trainer::snapshot`].
    ///
    /// # Errors
    /// When the device refuses.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let put = |host: &Vec<f32>| self.device.upload(host);
        self.state = snapshot
            .state
            .try_map(put, |x| self.device.upload_bytes(x))?;
        self.ema = snapshot.ema.as_ref().map(put).transpose()?;
        self.done = snapshot.step;
        self.watch = snapshot.watch;
        self.draws.restore(snapshot.draws.clone());
        self.old = snapshot.old.clone();
        self.round = None;
        self.feed()
    }

    /// Does one update. With `record` everything of it is copied to the host as well.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the sample, [`Error::RanAway`]; then nothing was applied.
    pub fn step(&mut self, mut record: Option<&mut Record>) -> Result<Report> {
        let samples = self.samples();
        if let Some(record) = record.as_deref_mut() {
            *record = self.begin_record(&samples)?;
        }
        let parts = self.parts(&samples);
        let own = &parts[ranks::share(self.ranks.as_ref(), parts.len())];
        let (errors, kept) = self.errors(&samples, own, record.as_deref_mut())?;
        let terms = self.config.terms(samples.len());
        let scale: Vec<f32> = samples.iter().map(|sample| sample.weight).collect();
        let weights = self.device.weights(&terms, &errors, &scale)?;
        if let Some(place) = weights.bad {
            return Err(self.bad_error(&samples, &errors, place));
        }
        let errors = self.device.download(&errors)?;
        let first = weights.terms[0];
        self.look(terms[0].loss, &first, &errors, &scale)?;
        let sum = self.sum(&samples, own, kept, &weights.c)?;
        let clip = self.device.global_norm(&sum, self.config.grad_clip)?;
        if !clip.norm.is_finite() {
            return Err(self.blame(&samples, own, &weights.c, clip));
        }
        let lr = self.update(&sum, clip)?;
        let set_accuracy = self.draws.see(leads(&samples, &errors));
        if let Some(record) = record {
            self.end_record(record, &errors, &sum, &weights.c)?;
        }
        let weighted = terms.iter().zip(&weights.terms);
        Ok(Report {
            step: self.done,
            loss: weighted.map(|(term, own)| term.weight * own.loss).sum(),
            preserve: weights.terms.get(1).map(|own| own.loss),
            pairs: (terms[0].loss != Loss::Each).then_some(first),
            set_accuracy,
            grad_norm: clip.norm,
            lr,
            estimate: match &self.state.moments {
                Moments::Prodigy(own) => Some(own.estimate.d),
                _ => None,
            },
            samples: samples.len(),
        })
    }

    /// What the next step trains on: pairs or drawn pictures, then preserved ones.
    fn samples(&self) -> Vec<Sample> {
        let (seed, config) = (self.config.seed, &self.config);
        let mut samples = match config.online {
            None => self.source.step(seed, self.done, config.batch),
            Some(online) => {
                let round = online.round(config.steps, self.done);
                let count = config.paired_pictures();
                self.source.drawn(seed, self.done, round, count)
            }
        };
        let count = config.preserved_per_step();
        samples.extend(self.source.preserve(seed, self.done, count));
        samples
    }

    /// The errors of all samples, [2, samples] in their order, and what there is room for of the
    /// gradients of the `own` parts, this rank's.
    fn errors(
        &mut self,
        samples: &[Sample],
        own: &[Vec<usize>],
        mut record: Option<&mut Record>,
    ) -> Result<(D::Buffer, Kept<D>)> {
        let (mut found, mut kept, mut seen) = (Vec::new(), Vec::new(), 0);
        for part in own {
            let out = self.run(&pick(samples, part), record.as_deref_mut())?;
            seen += part.len();
            found.push(out.errors);
            kept.push(Some(out.grads).filter(|_| self.has_room(seen)));
        }
        let (ranks, link) = (self.ranks.as_mut(), self.link.as_deref());
        let mut errors = ranks::received(ranks, link, &self.device, 2 * samples.len())?;
        for (found, part) in found.iter().zip(own) {
            self.device.place(found, part, &mut errors)?;
        }
        let errors = ranks::passed_on(ranks, link, &self.device, errors)?;
        Ok((errors, kept))
    }

    /// The weighted gradients of all samples, added in the order of the parts: to what the rank
    /// before has added. `parts` and what is `kept` of their gradients are this rank's.
    fn sum(
        &mut self,
        samples: &[Sample],
        parts: &[Vec<usize>],
        kept: Kept<D>,
        c: &D::Buffer,
    ) -> Result<D::Buffer> {
        let total = self.factors.layout().total();
        let (ranks, link) = (self.ranks.as_mut(), self.link.as_deref());
        let mut sum = ranks::received(ranks, link, &self.device, total)?;
        for (kept, part) in kept.into_iter().zip(parts) {
            let grads = match kept {
                Some(grads) => grads,
                None => self.run(&pick(samples, part), None)?.grads,
            };
            let layout = self.factors.layout();
            self.device.accumulate(&grads, layout, c, part, &mut sum)?;
        }
        let (ranks, link) = (self.ranks.as_mut(), self.link.as_deref());
        let sum = ranks::passed_on(ranks, link, &self.device, sum)?;
        Ok(self.scaled(&sum)?.unwrap_or(sum))
    }

    /// Applies a gradient; says at which learning rate.
    fn update(&mut self, sum: &D::Buffer, clip: Clip) -> Result<f64> {
        let lr = self.config.lr_at(self.done);
        let (hyper, at) = (self.config.adamw(), (self.done + 1, lr));
        device::update(&self.device, &hyper, at, clip, sum, &mut self.state)?;
        if let (Some(average), Some(decay)) = (&mut self.ema, self.config.ema) {
            self.device.ema(&self.state.p, average, decay)?;
        }
        self.done += 1;
        self.feed()?;
        Ok(lr)
    }

    /// The cut into micro-batches: places of samples, shape after shape.
    fn parts(&self, samples: &[Sample]) -> Vec<Vec<usize>> {
        let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
        for (place, sample) in samples.iter().enumerate() {
            let shape = self.source.shape(sample);
            shapes.entry(shape).or_default().push(place);
        }
        let chunks = shapes.values().flat_map(|all| all.chunks(self.micro_batch));
        chunks.map(<[usize]>::to_vec).collect()
    }

    /// Whether the gradients of the first `samples` may be kept.
    fn has_room(&self, samples: usize) -> bool {
        let each = (self.factors.layout().total() * size_of::<f32>()) as u64;
        (samples as u64).saturating_mul(each) <= self.grad_memory
    }

    /// Diffuses and runs one micro-batch, whose samples have one shape.
    fn run(
        &mut self,
        samples: &[Sample],
        record: Option<&mut Record>,
    ) -> Result<Gradients<D::Buffer>> {
        let arrays = self.source.arrays(samples)?;
        let shape = self.source.shape(&samples[0]);
        let [c, h, w] = shape.latent;
        let call = Diffuse {
            seed: self.config.seed,
            purpose: Purpose::TrainNoise,
            step: self.done,
            elements: c * h * w,
            addresses: &arrays.addresses,
            signal: &arrays.signal,
            sigma: &arrays.sigma,
            v_prediction: self.source.v_prediction(),
        };
        let latents = self.device.upload(&arrays.latents)?;
        let mut diffused = self.device.diffuse(&call, &latents)?;
        self.aim(samples, &arrays, &mut diffused)?;
        let pool = self.source.pool();
        if let Some(record) = record {
            record.noise.extend(self.device.download(&diffused.noise)?);
            record
                .sample
                .extend(self.device.download(&diffused.sample)?);
            record
                .target
                .extend(self.device.download(&diffused.target)?);
            record.latents.extend_from_slice(&arrays.latents);
        }
        let batch = Batch {
            sample: &diffused.sample,
            target: &diffused.target,
            shape: [samples.len(), c, h, w],
            timesteps: &arrays.timesteps,
            prompt_embeds: &arrays.prompt_embeds,
            embeds_shape: pool.sets()[0].manifest().layout.prompt_embeds,
            pooled: (!arrays.pooled.is_empty()).then_some(arrays.pooled.as_slice()),
            time_ids: shape.time_ids(),
        };
        let factors = self.fed.as_ref().unwrap_or(&self.state.p);
        self.model.run(&self.device, &batch, &self.factors, factors)
    }

    /// Ends a run that runs away.
    fn look(&mut self, loss: Loss, pairs: &Summary, errors: &[f32], scale: &[f32]) -> Result<()> {
        let paired = self.config.paired_pictures();
        let signs = Signs::of(loss, pairs.loss, errors, scale, paired);
        match self.watch.look(self.done, &signs) {
            None => Ok(()),
            Some((doubt, since)) => Err(Error::RanAway {
                step: self.done + 1,
                doubt,
                since,
                kept: None,
            }),
        }
    }

    fn begin_record(&self, samples: &[Sample]) -> Result<Record> {
        let [c, h, w] = self.source.pool().sets()[0].latent_shape();
        Ok(Record {
            shape: [samples.len(), c, h, w],
            timestep: samples.iter().map(|s| s.timestep as i64).collect(),
            label: samples.iter().map(|s| label(s.role)).collect(),
            scale: samples.iter().map(|s| s.weight).collect(),
            advantage: samples
                .iter()
                .filter_map(|s| self.source.advantage(s))
                .collect(),
            caption_id: samples.iter().map(|s| i64::from(s.caption_id)).collect(),
            empty: self.source.empty().map(|(id, text)| (id, text.clone())),
            before: self.device.download(&self.state.p)?,
            ..Record::default()
        })
    }

    fn end_record(
        &self,
        record: &mut Record,
        errors: &[f32],
        sum: &D::Buffer,
        c: &D::Buffer,
    ) -> Result<()> {
        let (mse, ref_mse) = errors.split_at(errors.len() / 2);
        record.mse = mse.to_vec();
        record.ref_mse = ref_mse.to_vec();
        record.grad = self.device.download(sum)?;
        record.after = self.device.download(&self.state.p)?;
        record.weight = self.device.download(c)?;
        Ok(())
    }
}

/// The draw of each pair and by how much its winner's implied reward is above its loser's.
fn leads<'a>(samples: &'a [Sample], errors: &'a [f32]) -> impl Iterator<Item = (u32, f64)> + 'a {
    let (mse, reference) = errors.split_at(samples.len());
    let reward = move |i: usize| f64::from(reference[i]) - f64::from(mse[i]);
    let paired = samples.iter().enumerate().step_by(2);
    paired
        .take_while(|(_, sample)| matches!(sample.role, Role::Winner | Role::Loser))
        .map(move |(i, sample)| (sample.draw, reward(i) - reward(i + 1)))
}

/// Those at some places.
fn pick<T: Copy>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| all[place]).collect()
}

/// The label of a role in a trace.
fn label(role: Role) -> i64 {
    match role {
        Role::Winner => 1,
        Role::Loser => 0,
        Role::Preserved => -1,
        Role::Drawn => 2,
    }
}
