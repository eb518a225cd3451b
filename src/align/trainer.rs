//! The training step, on any device and with any network.
//!
//! A global batch is cut into micro-batches for the network. Their per-sample gradients are kept
//! until the errors of the whole batch are known (or, where memory is short, computed again); only then has the offset μ of the loss its true
//! value and every sample its factor. The gradients are then added sample by sample, so the cut
//! does not change the sum: where the network itself gives the same bits for a sample in any
//! batch, so does the run. A micro-batch holds pictures of one size. (ONNX Runtime's CPU provider usually doesn't: its matrix products block
//! differently for different batch sizes. The results then agree to rounding.)

use std::collections::BTreeMap;

use super::config::Config;
use super::factors::FactorSet;
use super::model::{Batch, GradientModel, Gradients};
use super::ranks::{self, Ranks};
pub use super::record::{Record, Report};
use super::source::{Role, Sample, Source};
use super::{Error, Result};
use crate::base::exact::{neg_log_sigmoid, sigmoid_neg};
use crate::data::dataset::Shape;
use crate::device::{Clip, Device, Diffuse, Errors, HostState, Link, State, Weights};
use crate::random::Purpose;

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
    done: u32,
}

/// The numbers of a run at rest, on the host: what a checkpoint holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Updates done.
    pub step: u32,
    /// Factors and the optimizer's moments.
    pub state: HostState,
    /// Average of the factors, if one is kept.
    pub ema: Option<Vec<f32>>,
}

impl<D: Device, M: GradientModel<D>> Trainer<D, M> {
    /// A run at step 0 with initial factors.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn new(
        device: D,
        model: M,
        factors: FactorSet,
        config: Config,
        source: Source,
        micro_batch: usize,
        mut ranks: Box<dyn Ranks>,
    ) -> Result<Self> {
        let link = ranks::link(ranks.as_mut(), &device)?;
        let p = factors.init(config.init, config.seed);
        let start = State {
            p,
            moments: config.optimizer.moments(factors.layout()),
        };
        let state = start.try_map(|x| device.upload(x), |x| device.upload_bytes(x))?;
        let ema = config.ema.map(|_| device.upload(&start.p)).transpose()?;
        Ok(Self {
            device,
            model,
            factors,
            config,
            source,
            micro_batch: micro_batch.max(1),
            ranks,
            grad_memory: u64::MAX,
            link,
            state,
            ema,
            done: 0,
        })
    }

    /// Updates done.
    pub fn done(&self) -> u32 {
        self.done
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
        Ok(())
    }

    /// Does one update. With `record` everything of it is copied to the host as well.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the sample; then nothing was applied.
    pub fn step(&mut self, mut record: Option<&mut Record>) -> Result<Report> {
        let (seed, pairs) = (self.config.seed, self.config.pairs_per_step());
        let mut samples = self.source.step(seed, self.done, pairs);
        if self.config.preserve > 0.0 {
            samples.extend(self.source.preserve(seed, self.done, pairs.div_ceil(2)));
        }
        if let Some(record) = record.as_deref_mut() {
            *record = self.begin_record(&samples)?;
        }
        let parts = self.parts(&samples);
        let own = ranks::share(self.ranks.as_ref(), parts.len());
        let (mut mse, mut ref_mse) = (Vec::new(), Vec::new());
        let mut kept = Vec::new();
        for part in &parts[own.clone()] {
            let out = self.run(&pick(&samples, part), record.as_deref_mut())?;
            mse.extend(out.mse);
            ref_mse.extend(out.ref_mse);
            kept.push(Some(out.grads).filter(|_| self.has_room(mse.len())));
        }
        let mse = self.gathered(&mse, &parts)?;
        let ref_mse = self.gathered(&ref_mse, &parts)?;
        self.check_finite(&samples, "mse", &mse)?;
        self.check_finite(&samples, "ref_mse", &ref_mse)?;
        let (weights, preserve) = self.weigh(&samples, &mse, &ref_mse)?;
        let sum = self.sum(&samples, &parts[own.clone()], kept, &weights.c)?;
        let clip = self.device.global_norm(&sum, self.config.grad_clip)?;
        if !clip.norm.is_finite() {
            return Err(self.blame(&samples, &parts[own], &weights, clip));
        }
        let lr = self.config.lr_at(self.done);
        let update = self.config.adamw().step(self.done + 1, lr);
        self.device.adamw(&update, clip, &sum, &mut self.state)?;
        if let (Some(average), Some(decay)) = (&mut self.ema, self.config.ema) {
            self.device.ema(&self.state.p, average, decay)?;
        }
        self.done += 1;
        if let Some(record) = record {
            record.mse = mse;
            record.ref_mse = ref_mse;
            record.grad = self.device.download(&sum)?;
            record.after = self.device.download(&self.state.p)?;
            record.weight.clone_from(&weights.c);
        }
        Ok(Report {
            step: self.done,
            loss: weights.loss,
            preserve,
            accuracy: weights.accuracy,
            margin: weights.margin,
            mu: weights.mu,
            grad_norm: clip.norm,
            lr,
            samples: samples.len(),
        })
    }

    /// The weighted gradients of all samples, added in the order of the parts: to what the rank
    /// before has added. `parts` and what is `kept` of their gradients are this rank's.
    fn sum(
        &mut self,
        samples: &[Sample],
        parts: &[Vec<usize>],
        kept: Vec<Option<D::Buffer>>,
        c: &[f32],
    ) -> Result<D::Buffer> {
        let mut sum = self.received()?;
        for (kept, part) in kept.into_iter().zip(parts) {
            let grads = match kept {
                Some(grads) => grads,
                None => self.run(&pick(samples, part), None)?.grads,
            };
            let layout = self.factors.layout();
            self.device
                .accumulate(&grads, layout, &pick(c, part), &mut sum)?;
        }
        self.passed_on(sum)
    }

    /// The sum of the ranks before this one; zero for the first.
    fn received(&mut self) -> Result<D::Buffer> {
        let total = self.factors.layout().total();
        let mut sum = self.device.zeros(total)?;
        if self.ranks.rank() > 0 {
            match &self.link {
                Some(link) => link.receive(&mut sum)?,
                None => {
                    let mut host = vec![0.0; total];
                    self.ranks.receive(&mut host)?;
                    sum = self.device.upload(&host)?;
                }
            }
        }
        Ok(sum)
    }

    /// The sum of all ranks.
    fn passed_on(&mut self, mut sum: D::Buffer) -> Result<D::Buffer> {
        match &self.link {
            _ if self.ranks.size() == 1 => {}
            Some(link) => {
                link.send(&sum)?;
                link.spread(&mut sum)?;
            }
            None => {
                let mut host = self.device.download(&sum)?;
                self.ranks.send(&host)?;
                self.ranks.spread(&mut host)?;
                sum = self.device.upload(&host)?;
            }
        }
        Ok(sum)
    }

    /// Everyone's numbers of samples, in the samples' order.
    fn gathered(&mut self, own: &[f32], parts: &[Vec<usize>]) -> Result<Vec<f32>> {
        let found = self.ranks.gather(own)?.concat();
        let mut all = vec![0.0; found.len()];
        for (&place, value) in parts.iter().flatten().zip(found) {
            all[place] = value;
        }
        Ok(all)
    }

    /// The cut into micro-batches: places of samples, shape after shape.
    fn parts(&self, samples: &[Sample]) -> Vec<Vec<usize>> {
        let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
        for (place, sample) in samples.iter().enumerate() {
            let shape = self.source.pool().shape(sample.row);
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

    /// Factors of all samples, pairs first, and the unweighted loss of preserved ones, if any.
    fn weigh(
        &self,
        samples: &[Sample],
        mse: &[f32],
        ref_mse: &[f32],
    ) -> Result<(Weights, Option<f64>)> {
        let (mse, kept) = mse.split_at(self.config.batch);
        let (ref_mse, ref_kept) = ref_mse.split_at(self.config.batch);
        let winners = samples[..self.config.batch].iter().step_by(2);
        let scale: Vec<f32> = winners.map(|sample| sample.weight).collect();
        let errors = Errors {
            mse,
            ref_mse,
            scale: &scale,
        };
        let mut weights = self.device.weights(&self.config.loss(), &errors)?;
        if kept.is_empty() {
            return Ok((weights, None));
        }
        let (loss, c) = preserve(&self.config, kept, ref_kept);
        weights.loss += self.config.preserve * loss;
        weights.c.extend(c);
        Ok((weights, Some(loss)))
    }

    /// Diffuses and runs one micro-batch, whose samples have one shape.
    fn run(
        &mut self,
        samples: &[Sample],
        record: Option<&mut Record>,
    ) -> Result<Gradients<D::Buffer>> {
        let arrays = self.source.arrays(samples)?;
        let pool = self.source.pool();
        let shape = pool.shape(samples[0].row);
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
        let diffused = self.device.diffuse(&call, &latents)?;
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
        self.model
            .run(&self.device, &batch, &self.factors, &self.state.p)
    }

    fn begin_record(&self, samples: &[Sample]) -> Result<Record> {
        let [c, h, w] = self.source.pool().sets()[0].latent_shape();
        Ok(Record {
            shape: [samples.len(), c, h, w],
            timestep: samples.iter().map(|s| s.timestep as i64).collect(),
            label: samples.iter().map(|s| label(s.role)).collect(),
            scale: samples.iter().map(|s| s.weight).collect(),
            caption_id: samples.iter().map(|s| i64::from(s.caption_id)).collect(),
            before: self.device.download(&self.state.p)?,
            ..Record::default()
        })
    }

    fn check_finite(&self, samples: &[Sample], what: &'static str, values: &[f32]) -> Result<()> {
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(i) => Err(self.non_finite(&samples[i], what.to_owned(), values[i])),
        }
    }

    fn non_finite(&self, sample: &Sample, output: String, value: f32) -> Error {
        let row = self.source.pool().row(sample.row);
        Error::NonFinite {
            step: self.done + 1,
            output,
            fp16: self.model.is_fp16(),
            image_id: row.image_id,
            prompt_id: row.prompt_id,
            caption: self.source.caption(sample).to_owned(),
            value,
        }
    }

    /// Finds the sample whose gradient made the norm infinite or NaN, if it is one of this rank's, by
    /// running the network again.
    fn blame(
        &mut self,
        samples: &[Sample],
        parts: &[Vec<usize>],
        weights: &Weights,
        clip: Clip,
    ) -> Error {
        let layout = self.factors.layout().clone();
        for part in parts {
            let Ok(out) = self.run(&pick(samples, part), None) else {
                continue;
            };
            let Ok(values) = self.device.download(&out.grads) else {
                continue;
            };
            for (m, factor) in self.factors.list().iter().enumerate() {
                let own = &values[layout.batch_range(m, part.len())];
                for (i, own) in own.chunks(layout.range(m).len().max(1)).enumerate() {
                    let counts = weights.c[part[i]] != 0.0;
                    if let Some(&bad) = own.iter().find(|v| counts && !v.is_finite()) {
                        let output = format!("grad.{}", factor.name);
                        return self.non_finite(&samples[part[i]], output, bad);
                    }
                }
            }
        }
        Error::NonFiniteBatch {
            step: self.done + 1,
            what: "gradient norm",
            value: f64::from(clip.norm),
        }
    }
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
    }
}

/// Loss and factors of preserved pictures: each should stay at least as likely under its own
/// caption as the reference made it, L = mean of −ln σ(β g_i), c_i = W β σ(−β g_i) / n. It is
/// PopAlign's form for winners with the offset at the reference itself, so its weight W needs no
/// other scale.
fn preserve(config: &Config, mse: &[f32], ref_mse: &[f32]) -> (f64, Vec<f32>) {
    let n = mse.len() as f64;
    let z = |(m, r): (&f32, &f32)| config.beta * (f64::from(*r) - f64::from(*m));
    let z: Vec<f64> = mse.iter().zip(ref_mse).map(z).collect();
    let loss = z.iter().map(|&z| neg_log_sigmoid(z)).sum::<f64>() / n;
    let factor = |&z: &f64| (config.preserve * config.beta * sigmoid_neg(z) / n) as f32;
    (loss, z.iter().map(factor).collect())
}
