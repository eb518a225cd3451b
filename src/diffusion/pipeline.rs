//! From addressed noise to a finished latent: batches of any mixture of captions.
//!
//! A picture is a function of its caption's embedding, its address (seed, prompt id, image id) and
//! the settings. Its batch mates only share the UNet's call.

use std::ops::Range;
use std::sync::Arc;

use super::NonFinite;
use super::guidance::{Guidance, Layout, Moment};
use super::samplers::{History, Sampler};
use super::text::{Embedding, TextShape};
use crate::bundle::{self, Bundle, Part};
use crate::family::TIME_IDS;
use crate::family::ports::unet;
use crate::lora::Fitted;
use crate::random;
use crate::random::Purpose;
use crate::runtime::{self, Feed, Session};

/// Why a drawing failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The UNet.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A latent that is no picture.
    #[error("{found}, in job {job} of a batch at step {step}")]
    NonFinite {
        /// Which numbers.
        found: NonFinite,
        /// Its place in the batch.
        job: usize,
        /// The sampler's step, from 1.
        step: usize,
    },
}

/// A caption as the UNet sees it.
#[derive(Debug, Clone, Copy)]
pub struct Conditioning<'a> {
    /// `[tokens, width]`, row-major.
    pub prompt_embeds: &'a [f32],
    /// The pooled embedding, where the model takes one.
    pub pooled: Option<&'a [f32]>,
}

impl<'a> From<&'a Embedding> for Conditioning<'a> {
    fn from(embedding: &'a Embedding) -> Self {
        Self {
            prompt_embeds: &embedding.prompt_embeds,
            pooled: embedding.pooled.as_deref(),
        }
    }
}

/// A caption that a picture is moved towards or away from.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// The caption.
    pub caption: Conditioning<'a>,
    /// Whether away.
    pub away: bool,
}

/// One picture to draw.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its caption.
    pub caption: Conditioning<'a>,
    /// Its edits, where guidance makes some.
    pub edits: &'a [Edit<'a>],
    /// Its caption's id, for its noise.
    pub prompt_id: u32,
    /// Its number among the caption's pictures, for its noise.
    pub image_id: u32,
}

/// Noised pictures, and when.
#[derive(Debug, Clone, Copy)]
pub struct Noised<'a> {
    /// [n, C, h, w].
    pub sample: &'a [f32],
    /// Training time steps, `[n]`.
    pub timesteps: &'a [i64],
    /// Text embeddings, [n, tokens, width].
    pub prompt_embeds: &'a [f32],
    /// Pooled embeddings, [n, length]; empty for models without.
    pub pooled: &'a [f32],
}

/// Whether a model is told zeros where there is no caption, instead of the empty caption's embeddings.
///
/// # Errors
/// A `model_index.json` that is not JSON, a bundle of no family.
pub fn zeros_for_none(bundle: &Bundle) -> Result<bool, bundle::Error> {
    let index = match bundle.file("model_index.json") {
        Some(_) => bundle.json("model_index.json")?,
        None => serde_json::Value::Null,
    };
    // Only a family that does so at all can say that it doesn't.
    let key = index.get("force_zeros_for_empty_prompt");
    Ok(bundle.family()?.descriptor().zeros_for_no_caption
        && key.and_then(serde_json::Value::as_bool).unwrap_or(true))
}

/// What all pictures of a run have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Seed of all noise.
    pub seed: u64,
    /// The sampler with its steps.
    pub sampler: Arc<dyn Sampler>,
    /// Steps of the model's training: what the sampler's timesteps are out of.
    pub train_timesteps: usize,
    /// How the captions steer.
    pub guidance: Guidance,
    /// Channels, height and width of a latent.
    pub latent: [usize; 3],
    /// Sizes of the conditioning.
    pub text: TextShape,
    /// SDXL's size conditions: height, width, top, left, height, width.
    pub time_ids: [f32; TIME_IDS],
    /// An adapter and what it is multiplied with.
    pub lora: Option<(Arc<Fitted>, f32)>,
}

impl Settings {
    /// Numbers in a latent.
    pub fn latent_len(&self) -> usize {
        self.latent.iter().product()
    }

    /// The negative caption: the one asked for; else none where zeros stand for it or where there
    /// is no guidance, else "".
    ///
    /// # Errors
    /// A `model_index.json` that is not JSON.
    pub fn negative(
        &self,
        asked: Option<&str>,
        bundle: &Bundle,
    ) -> Result<Option<String>, bundle::Error> {
        if !self.guidance.doubles() {
            return Ok(None);
        }
        Ok(match asked {
            Some(negative) => Some(negative.to_owned()),
            None if zeros_for_none(bundle)? => None,
            None => Some(String::new()),
        })
    }

    /// The latents that `jobs` start from.
    pub fn initial_latents(&self, jobs: &[Job<'_>]) -> Vec<f32> {
        let length = self.latent_len();
        let mut latents = vec![0.0; jobs.len() * length];
        for (latent, job) in latents.chunks_exact_mut(length).zip(jobs) {
            let (prompt, image) = (job.prompt_id, job.image_id);
            random::normal(self.seed, Purpose::InitLatent, prompt, image, 0, latent);
        }
        let sigma = self.sampler.init_noise_sigma();
        latents.iter_mut().for_each(|x| *x *= sigma);
        latents
    }

    /// Adds to a feed of so many rows what conditions the UNet beside the tokens: pooled embeddings, sizes and the
    /// adapter.
    fn condition<'a>(&'a self, feed: &mut Feed<'a>, pooled: &'a [f32], rows: usize) {
        if let Some(length) = self.text.pooled {
            feed.push_f32(unet::TEXT_EMBEDS, pooled, &[rows, length]);
        }
        if self.text.family.descriptor().added_conditioning {
            feed.push_f32(
                unet::TIME_IDS,
                self.time_ids.repeat(rows),
                &[rows, TIME_IDS],
            );
        }
        if let Some((factors, scale)) = &self.lora {
            factors.feed(feed);
            feed.push_f32(unet::LORA_SCALE, vec![*scale], &[]);
        }
    }

    /// Where a drawing is at a step.
    fn moment(&self, step: usize) -> Moment {
        let timesteps = self.sampler.timesteps();
        let share = |step: usize| timesteps[step] / self.train_timesteps as f64;
        Moment {
            step,
            steps: timesteps.len(),
            time: share(step),
            first: share(0),
        }
    }

    /// Fresh noise of each job at a step of a stochastic sampler.
    fn step_noise(&self, jobs: &[Job<'_>], step: usize, noise: &mut Vec<f32>) {
        let length = self.latent_len();
        noise.resize(jobs.len() * length, 0.0);
        for (noise, job) in noise.chunks_exact_mut(length).zip(jobs) {
            let (prompt, image) = (job.prompt_id, job.image_id);
            random::normal(
                self.seed,
                Purpose::SamplerNoise,
                prompt,
                image,
                step as u32,
                noise,
            );
        }
    }
}

/// A UNet with its settings.
#[derive(Debug)]
pub struct Denoiser {
    session: Session,
    settings: Settings,
}

impl Denoiser {
    /// Takes a loaded UNet.
    pub fn new(session: Session, settings: Settings) -> Self {
        Self { session, settings }
    }

    /// Draws with this adapter, at full strength, from now on.
    pub fn set_lora(&mut self, lora: Arc<Fitted>) {
        self.settings.lora = Some((lora, 1.0));
    }

    /// What the UNet predicts of noised pictures, [n, C, h, w], without guidance. They must be of one time step:
    /// the graph takes one.
    ///
    /// # Errors
    /// A run that fails.
    pub fn predict(&mut self, noised: &Noised<'_>) -> Result<Vec<f32>, Error> {
        let n = noised.timesteps.len();
        let [c, h, w] = self.settings.latent;
        let TextShape { tokens, width, .. } = self.settings.text;
        let mut feed = Feed::new()
            .f32_slice(unet::SAMPLE, noised.sample, &[n, c, h, w])
            .f32_slice(
                unet::ENCODER_HIDDEN_STATES,
                noised.prompt_embeds,
                &[n, tokens, width],
            );
        feed.push_f32(unet::TIMESTEP, vec![noised.timesteps[0] as f32], &[]);
        self.settings.condition(&mut feed, noised.pooled, n);
        let outputs = self.session.run(&feed)?;
        Ok(outputs.f32(unet::OUT_SAMPLE)?.iter().copied().collect())
    }

    /// Draws `jobs` in one batch, guided away from `negative`: `[n, C, h, w]`, scaled as the UNet
    /// sees latents. `stepped` is called after each step.
    ///
    /// # Errors
    /// A run that fails, or a latent that isn't finite.
    pub fn draw(
        &mut self,
        jobs: &[Job<'_>],
        negative: Conditioning<'_>,
        stepped: &mut dyn FnMut(),
    ) -> Result<Vec<f32>, Error> {
        let latents = self.settings.initial_latents(jobs);
        self.draw_from(latents, jobs, negative, stepped)
    }

    /// As [`Self::draw`], from given latents.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn draw_from(
        &mut self,
        mut latents: Vec<f32>,
        jobs: &[Job<'_>],
        negative: Conditioning<'_>,
        stepped: &mut dyn FnMut(),
    ) -> Result<Vec<f32>, Error> {
        let Settings {
            sampler, guidance, ..
        } = &self.settings;
        let mut batch = Batch::new(&self.settings, jobs, negative);
        let mut history = History::default();
        let mut momentum = vec![0.0; latents.len()];
        let (mut input, mut prediction, mut noise) = (Vec::new(), Vec::new(), Vec::new());
        for (step, &timestep) in sampler.timesteps().iter().enumerate() {
            let at = self.settings.moment(step);
            let rows = batch.rows(guidance.guides(&at));
            let divisor = sampler.input_divisor(step);
            input.clear();
            for &job in &batch.jobs[rows.clone()] {
                let latent = &latents[job * batch.latent..(job + 1) * batch.latent];
                input.extend(latent.iter().map(|latent| latent / divisor));
            }
            batch.anneal(&self.settings, jobs, &at);
            let feed = batch.feed(&self.settings, rows.clone(), &input, timestep);
            let outputs = self.session.run(&feed)?;
            prediction.clear();
            prediction.extend(outputs.f32(unet::OUT_SAMPLE)?.iter());
            self.check(&prediction, unet::OUT_SAMPLE, &batch.jobs[rows], step)?;
            if sampler.needs_noise() {
                self.settings.step_noise(jobs, step, &mut noise);
            }
            let guided = match guidance.guides(&at) {
                true => guidance.combine(&at, &mut prediction, &batch.layout(), &mut momentum),
                false => &prediction,
            };
            sampler.step(step, guided, &mut latents, &noise, &mut history);
            stepped();
        }
        let last = sampler.timesteps().len().saturating_sub(1);
        let all: Vec<usize> = (0..jobs.len()).collect();
        self.check(&latents, "the latent made of out_sample", &all, last)?;
        Ok(latents)
    }

    /// Refuses numbers that are none; `jobs` says whose each row is.
    fn check(
        &self,
        values: &[f32],
        output: &'static str,
        jobs: &[usize],
        step: usize,
    ) -> Result<(), Error> {
        let mut rows = values.chunks_exact(self.settings.latent_len().max(1));
        let Some(row) = rows.position(|row| row.iter().any(|x| !x.is_finite())) else {
            return Ok(());
        };
        Err(Error::NonFinite {
            found: NonFinite {
                part: Part::Unet,
                output,
                fp16: self.session.is_fp16(),
            },
            job: jobs[row],
            step: step + 1,
        })
    }
}

/// What the UNet sees of a batch's captions: a row each of the negative ones, the jobs' own, their
/// edits.
struct Batch<'a> {
    /// Each row's whole caption.
    captions: Vec<Conditioning<'a>>,
    /// Each row's job.
    jobs: Vec<usize>,
    /// The rows of the jobs' own captions.
    own: Range<usize>,
    /// Per job whether each of its edits is moved away from.
    away: Vec<Vec<bool>>,
    /// Numbers in a channel and in a latent.
    channel: usize,
    latent: usize,
    /// Whether the captions' embeddings are other than whole.
    annealed: bool,
    prompt_embeds: Vec<f32>,
    pooled: Vec<f32>,
}

impl<'a> Batch<'a> {
    fn new(settings: &Settings, jobs: &[Job<'a>], negative: Conditioning<'a>) -> Self {
        let guided = settings.guidance.doubles();
        let negatives = if guided { jobs.len() } else { 0 };
        let edits: &dyn Fn(&Job<'a>) -> &'a [Edit<'a>] =
            &|job| if guided { job.edits } else { &[] };
        let mut rows: Vec<(usize, Conditioning<'a>)> = Vec::new();
        rows.extend((0..negatives).map(|job| (job, negative)));
        rows.extend(jobs.iter().map(|job| job.caption).enumerate());
        for (place, job) in jobs.iter().enumerate() {
            rows.extend(edits(job).iter().map(|edit| (place, edit.caption)));
        }
        let away = |job| edits(job).iter().map(|edit| edit.away).collect();
        let (owners, captions): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let embeds = captions.iter().flat_map(|c| c.prompt_embeds);
        let pooled = captions.iter().flat_map(|c| c.pooled.unwrap_or_default());
        let [_, h, w] = settings.latent;
        Self {
            own: negatives..negatives + jobs.len(),
            away: jobs.iter().map(away).collect(),
            channel: h * w,
            latent: settings.latent_len(),
            annealed: false,
            prompt_embeds: embeds.copied().collect(),
            pooled: pooled.copied().collect(),
            captions,
            jobs: owners,
        }
    }

    /// The rows that the UNet must see: all, or of a step that isn't guided the jobs' own.
    fn rows(&self, guided: bool) -> Range<usize> {
        match guided {
            true => 0..self.captions.len(),
            false => self.own.clone(),
        }
    }

    /// What the predictions of all rows are.
    fn layout(&self) -> Layout<'_> {
        Layout {
            channel: self.channel,
            picture: self.latent,
            away: &self.away,
        }
    }

    /// Makes the captions' embeddings what they are at a step.
    fn anneal(&mut self, settings: &Settings, jobs: &[Job<'_>], at: &Moment) {
        let guidance = &settings.guidance;
        let annealing = guidance.anneals(at);
        if !annealing && !self.annealed {
            return;
        }
        self.annealed = annealing;
        let pooled = settings.text.pooled.unwrap_or(0);
        let length = settings.text.tokens * settings.text.width + pooled;
        // Negative captions come first, where there are any.
        let both = self.own.start > 0 && guidance.anneals_negative(at);
        let mut noise = vec![0.0; if both { 2 * length } else { length }];
        for (place, job) in jobs.iter().enumerate() {
            if annealing {
                let (seed, prompt, image) = (settings.seed, job.prompt_id, job.image_id);
                let step = at.step as u32;
                random::normal(seed, Purpose::Guidance, prompt, image, step, &mut noise);
            }
            let (own, negatives) = noise.split_at(length);
            self.drown(guidance, at, self.own.start + place, own);
            if both {
                self.drown(guidance, at, place, negatives);
            } else if !annealing && self.own.start > 0 {
                self.drown(guidance, at, place, own);
            }
        }
    }

    /// Makes a row's embeddings whole, then what they are at a step.
    fn drown(&mut self, guidance: &Guidance, at: &Moment, row: usize, noise: &[f32]) {
        let whole = self.captions[row];
        let parts = [
            (&mut self.prompt_embeds, whole.prompt_embeds),
            (&mut self.pooled, whole.pooled.unwrap_or_default()),
        ];
        let mut rest = noise;
        for (all, whole) in parts {
            let noise;
            (noise, rest) = rest.split_at(whole.len());
            let own = &mut all[row * whole.len()..(row + 1) * whole.len()];
            own.copy_from_slice(whole);
            if guidance.anneals(at) && !own.is_empty() {
                guidance.anneal(at, own, noise);
            }
        }
    }

    fn feed<'b>(
        &'b self,
        settings: &'b Settings,
        seen: Range<usize>,
        input: &'b [f32],
        timestep: f64,
    ) -> Feed<'b> {
        let rows = seen.len();
        let [c, h, w] = settings.latent;
        let TextShape {
            tokens,
            width,
            pooled,
            ..
        } = settings.text;
        let of = |values: &'b [f32], length| &values[seen.start * length..seen.end * length];
        let embeds = of(&self.prompt_embeds, tokens * width);
        let mut feed = Feed::new()
            .f32_slice(unet::SAMPLE, input, &[rows, c, h, w])
            .f32_slice(unet::ENCODER_HIDDEN_STATES, embeds, &[rows, tokens, width]);
        feed.push_f32(unet::TIMESTEP, vec![timestep as f32], &[]);
        settings.condition(&mut feed, of(&self.pooled, pooled.unwrap_or(0)), rows);
        feed
    }
}
