//! From addressed noise to a finished latent: batches of any mixture of captions.
//!
//! A picture is a function of its caption's embedding, its address (seed, prompt id, image id) and
//! the settings. Its batch mates only share the UNet's call.

use std::sync::Arc;

use super::NonFinite;
use super::guidance::Guidance;
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

/// One picture to draw.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its caption.
    pub caption: Conditioning<'a>,
    /// Its caption's id, for its noise.
    pub prompt_id: u32,
    /// Its number among the caption's pictures, for its noise.
    pub image_id: u32,
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
        let index = match bundle.file("model_index.json") {
            Some(_) => bundle.json("model_index.json")?,
            None => serde_json::Value::Null,
        };
        // Only a family that does so at all can say that it doesn't.
        let key = index.get("force_zeros_for_empty_prompt");
        let zeros = self.text.family.descriptor().zeros_for_no_caption
            && key.and_then(serde_json::Value::as_bool).unwrap_or(true);
        Ok(match asked {
            Some(negative) => Some(negative.to_owned()),
            None if zeros => None,
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
        let mut input = vec![0.0; batch.rows * self.settings.latent_len()];
        let mut prediction = Vec::new();
        let mut noise = Vec::new();
        for (step, &timestep) in sampler.timesteps().iter().enumerate() {
            let divisor = sampler.input_divisor(step);
            for half in input.chunks_exact_mut(latents.len()) {
                for (x, latent) in half.iter_mut().zip(&latents) {
                    *x = latent / divisor;
                }
            }
            let time = timestep / self.settings.train_timesteps as f64;
            batch.anneal(&self.settings, jobs, step, time);
            let feed = batch.feed(&self.settings, &input, timestep);
            let outputs = self.session.run(&feed)?;
            prediction.clear();
            prediction.extend(outputs.f32(unet::OUT_SAMPLE)?.iter());
            self.check(&prediction, unet::OUT_SAMPLE, jobs.len(), step)?;
            if sampler.needs_noise() {
                self.settings.step_noise(jobs, step, &mut noise);
            }
            let guided = guidance.combine(time, &mut prediction);
            sampler.step(step, guided, &mut latents, &noise, &mut history);
            stepped();
        }
        let last = sampler.timesteps().len().saturating_sub(1);
        self.check(&latents, "the latent made of out_sample", jobs.len(), last)?;
        Ok(latents)
    }

    /// Refuses numbers that are none. With guidance a batch holds each job twice.
    fn check(
        &self,
        values: &[f32],
        output: &'static str,
        jobs: usize,
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
            job: row % jobs.max(1),
            step: step + 1,
        })
    }
}

/// What the UNet sees of a batch's captions.
struct Batch {
    rows: usize,
    /// Whether the captions' embeddings are other than whole.
    annealed: bool,
    prompt_embeds: Vec<f32>,
    pooled: Vec<f32>,
    time_ids: Vec<f32>,
}

impl Batch {
    fn new(settings: &Settings, jobs: &[Job<'_>], negative: Conditioning<'_>) -> Self {
        let negatives = match settings.guidance.doubles() {
            true => jobs.len(),
            false => 0,
        };
        let captions: Vec<Conditioning<'_>> = std::iter::repeat_n(negative, negatives)
            .chain(jobs.iter().map(|job| job.caption))
            .collect();
        let embeds = captions.iter().flat_map(|c| c.prompt_embeds);
        let pooled = captions.iter().flat_map(|c| c.pooled.unwrap_or_default());
        Self {
            rows: captions.len(),
            annealed: false,
            prompt_embeds: embeds.copied().collect(),
            pooled: pooled.copied().collect(),
            time_ids: settings.time_ids.repeat(captions.len()),
        }
    }

    /// Makes the positive captions' embeddings, which stand last, what they are at a step.
    fn anneal(&mut self, settings: &Settings, jobs: &[Job<'_>], step: usize, time: f64) {
        let annealing = settings.guidance.anneals(time);
        if !annealing && !self.annealed {
            return;
        }
        self.annealed = annealing;
        let (width, pooled) = (
            settings.text.tokens * settings.text.width,
            settings.text.pooled.unwrap_or(0),
        );
        let first = self.rows - jobs.len();
        let mut noise = vec![0.0; width + pooled];
        for (row, job) in (first..).zip(jobs) {
            let embeds = &mut self.prompt_embeds[row * width..(row + 1) * width];
            embeds.copy_from_slice(job.caption.prompt_embeds);
            let pool = &mut self.pooled[row * pooled..(row + 1) * pooled];
            pool.copy_from_slice(&job.caption.pooled.unwrap_or_default()[..pooled]);
            if annealing {
                let (seed, prompt, image) = (settings.seed, job.prompt_id, job.image_id);
                random::normal(
                    seed,
                    Purpose::Guidance,
                    prompt,
                    image,
                    step as u32,
                    &mut noise,
                );
                settings.guidance.anneal(time, embeds, &noise[..width]);
                if !pool.is_empty() {
                    settings.guidance.anneal(time, pool, &noise[width..]);
                }
            }
        }
    }

    fn feed<'a>(&'a self, settings: &'a Settings, input: &'a [f32], timestep: f64) -> Feed<'a> {
        let rows = self.rows;
        let [c, h, w] = settings.latent;
        let TextShape {
            family,
            tokens,
            width,
            pooled,
        } = settings.text;
        let embeds = self.prompt_embeds.as_slice();
        let mut feed = Feed::new()
            .f32_slice(unet::SAMPLE, input, &[rows, c, h, w])
            .f32_slice(unet::ENCODER_HIDDEN_STATES, embeds, &[rows, tokens, width]);
        feed.push_f32(unet::TIMESTEP, vec![timestep as f32], &[]);
        if let Some(length) = pooled {
            feed.push_f32(unet::TEXT_EMBEDS, self.pooled.as_slice(), &[rows, length]);
        }
        if family.descriptor().added_conditioning {
            feed.push_f32(unet::TIME_IDS, self.time_ids.as_slice(), &[rows, TIME_IDS]);
        }
        if let Some((factors, scale)) = &settings.lora {
            factors.feed(&mut feed);
            feed.push_f32(unet::LORA_SCALE, vec![*scale], &[]);
        }
        feed
    }
}
