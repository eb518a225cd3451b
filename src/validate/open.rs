//! Loading what validations need.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Request, Schedule, Validator};
use crate::align::Result;
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::data::dataset::{Dataset, Kind};
use crate::data::pool::Pool;
use crate::datagen::{Plan, setup};
use crate::diffusion::guidance::Guidance;
use crate::diffusion::painter::Painter;
use crate::diffusion::pipeline::Settings;
use crate::diffusion::sampler::{Sampler, SamplerKind};
use crate::diffusion::schedule::SchedulerConfig;
use crate::diffusion::text::{Embedding, TextEncoders, TextShape};
use crate::judge::chain::{Chain, Manifest};
use crate::judge::scales;
use crate::prompts;
use crate::prompts::Axes;
use crate::prompts::caption_id;
use crate::runtime::{Runtime, SessionOptions};
use crate::score;
use crate::score::choice::Metrics;
use crate::score::gallery;
use crate::score::population::{Population, Prompt, Shot, Slot};

/// `pa-datagen`'s defaults, for a data set that doesn't say how it was drawn.
const STEPS: u32 = 50;
const CFG: f32 = 5.0;

/// What a validator is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The model.
    pub bundle: &'a Bundle,
    /// Its noise schedule.
    pub scheduler: &'a SchedulerConfig,
    /// The data sets of the run; pictures are of the first one's size.
    pub pool: &'a Pool,
    /// The axes with their targets.
    pub axes: Option<&'a Axes>,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// How graphs are run.
    pub session: &'a SessionOptions,
    /// Seed of the pictures' noise.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u32,
}

/// How pictures are drawn.
#[derive(Debug)]
struct Drawing {
    sampler: SamplerKind,
    steps: u32,
    cfg: f32,
    negative: Option<String>,
}

impl Drawing {
    /// As the user says, else as the data set was drawn.
    fn new(request: &Request, dataset: &Dataset) -> Self {
        let made = &dataset.manifest().config;
        let text = |key: &str| made.get(key).and_then(Value::as_str);
        let number = |key: &str| made.get(key).and_then(Value::as_f64);
        let sampler = text("sampler").and_then(|name| SamplerKind::from_str(name, false).ok());
        let steps = number("steps").map(|n| n as u32);
        let cfg = number("cfg").map(|n| n as f32);
        Self {
            sampler: sampler.unwrap_or(SamplerKind::Euler),
            steps: request.steps.or(steps).unwrap_or(STEPS),
            cfg: request.cfg.or(cfg).unwrap_or(CFG),
            negative: text("negative").map(str::to_owned),
        }
    }
}

impl Validator {
    /// Checks the request against what there is, encodes the captions and loads the networks.
    ///
    /// # Errors
    /// An option that can't be, a bundle without the parts, a chain that doesn't measure the axes.
    pub fn open(request: &Request, inputs: &Inputs<'_>) -> Result<Self> {
        request.check()?;
        let Inputs {
            bundle,
            runtime,
            session,
            ..
        } = *inputs;
        let dataset = &inputs.pool.sets()[0];
        let (width, height) = dataset.size();
        let plan = plan(request, inputs)?;
        let drawing = Drawing::new(request, dataset);
        let settings = settings(&drawing, inputs)?;
        let chain_path = score::chain_path(request.chain.as_deref(), Some(bundle))?;
        let manifest = Manifest::read(&chain_path)?;
        let scales = match inputs.axes {
            Some(axes) => scales::from_axes(axes, &manifest)?,
            None => scales::from_chain(&manifest),
        };
        let chain = Chain::open(runtime, &chain_path, session)?;
        let (embeddings, negative) = encode(request, inputs, &plan, &settings, &drawing)?;
        let batch = setup::batch(settings.latent).min(plan.len());
        let units = plan.len().div_ceil(batch);
        let (workers, threads) = setup::workers(bundle, session.ep, session.threads, units);
        let each = SessionOptions {
            threads,
            ..session.clone()
        };
        let painter = || Painter::open(bundle, runtime, &each, &settings, Some([height, width]));
        let painters = std::iter::repeat_with(painter).take(workers);
        let mut validator = Self {
            schedule: Schedule {
                every: request.every,
                steps: inputs.steps,
                target: request.target,
            },
            painters: painters.collect::<std::result::Result<_, _>>()?,
            population: population(&plan),
            plan,
            embeddings,
            negative,
            batch,
            chain,
            metrics: Metrics::axes(scales),
            facts: Value::Null,
        };
        validator.facts = validator.describe(request, &drawing, bundle)?;
        Ok(validator)
    }

    fn describe(&self, request: &Request, drawing: &Drawing, bundle: &Bundle) -> Result<Value> {
        let captions = self.plan.captions().join("\n");
        let targets: Vec<Value> = self
            .metrics
            .scales
            .iter()
            .map(|scale| json!([scale.name, scale.values, scale.target]))
            .collect();
        Ok(json!({
            "pictures": request.pictures,
            "every": request.every,
            "target": request.target,
            "captions_sha256": fsio::sha256_bytes(captions.as_bytes()),
            "steps": drawing.steps,
            "cfg": drawing.cfg,
            "sampler": drawing.sampler,
            "negative": drawing.negative,
            "chain": self.chain.manifest().name,
            "chain_sha256": self.chain.sha256(),
            "targets": targets,
            "unet": bundle.fingerprint(Part::Unet)?,
            "vae_decoder": bundle.fingerprint(Part::VaeDecoder)?,
        }))
    }
}

/// The pictures of a validation.
fn plan(request: &Request, inputs: &Inputs<'_>) -> Result<Plan> {
    let (texts, axes) = match &request.prompts {
        Some(path) => (prompts::read(path)?.texts, inputs.axes),
        None => (people(inputs.pool), None),
    };
    Ok(Plan::new(&texts, axes, request.pictures, 0)?)
}

/// The neutral captions of subjects that have identities, in the data set's order; all neutral
/// captions where none has.
fn people(pool: &Pool) -> Vec<String> {
    let neutral = |row: &crate::data::dataset::Row| row.neutral_prompt.clone();
    let named = pool.rows().filter(|r| r.kind == Kind::Specific);
    let named: BTreeSet<String> = named.map(neutral).collect();
    let mut seen = HashSet::new();
    let all = pool.rows().map(neutral);
    all.filter(|caption| named.is_empty() || named.contains(caption))
        .filter(|caption| seen.insert(caption.clone()))
        .collect()
}

fn settings(drawing: &Drawing, inputs: &Inputs<'_>) -> Result<Settings> {
    inputs.bundle.part(Part::VaeDecoder)?;
    let text = TextShape::of(inputs.bundle)?;
    let steps = drawing.steps as usize;
    Ok(Settings {
        seed: inputs.seed,
        sampler: Sampler::new(drawing.sampler, inputs.scheduler, steps)?,
        train_timesteps: inputs.scheduler.train_timesteps,
        guidance: Guidance::Cfg(drawing.cfg),
        latent: inputs.pool.sets()[0].latent_shape(),
        text,
        time_ids: inputs.pool.sets()[0].time_ids(),
        lora: None,
    })
}

/// The captions' embeddings and the negative one. The data set has those of its own captions.
fn encode(
    request: &Request,
    inputs: &Inputs<'_>,
    plan: &Plan,
    settings: &Settings,
    drawing: &Drawing,
) -> Result<(HashMap<u32, Embedding>, Embedding)> {
    let mut loaded: Option<TextEncoders> = None;
    let mut by_encoders = |caption: &str| -> Result<Embedding> {
        let encoders = match &mut loaded {
            Some(encoders) => encoders,
            None => {
                let opened = TextEncoders::open(inputs.bundle, inputs.runtime, inputs.session)?;
                loaded.insert(opened)
            }
        };
        let (embedding, truncated) = encoders.encode(caption)?;
        if truncated {
            tracing::warn!("\"{caption}\" is too long for the text encoders and loses its end");
        }
        Ok(embedding)
    };
    let own = |caption: &str| -> Result<Embedding> {
        let found = inputs.pool.embeddings(caption_id(caption))?;
        Ok(Embedding {
            prompt_embeds: found.prompt_embeds.to_vec(),
            pooled: found.pooled.map(<[f32]>::to_vec),
        })
    };
    let captions = plan.captions().iter();
    let embeddings = captions
        .map(|caption| {
            let embedding = match request.prompts {
                Some(_) => by_encoders(caption)?,
                None => own(caption)?,
            };
            Ok((caption_id(caption), embedding))
        })
        .collect::<Result<_>>()?;
    let asked = drawing.negative.as_deref();
    let negative = match setup::negative(asked, inputs.bundle, settings)? {
        Some(caption) => by_encoders(&caption)?,
        None => settings.text.zeros(),
    };
    Ok((embeddings, negative))
}

/// The plan's pictures as a population to score, one slot a picture.
fn population(plan: &Plan) -> Population {
    let mut population = Population::default();
    for index in 0..plan.len() {
        let picture = plan.picture(index);
        if population.prompts.last().map(|p| p.text.as_str()) != Some(picture.caption) {
            population.prompts.push(Prompt {
                text: picture.caption.to_owned(),
                kind: gallery::Kind::Neutral,
                told: true,
                axes: picture.axes.clone(),
                neutral: None,
                slots: Vec::new(),
            });
        }
        let prompt = population.prompts.len() - 1;
        population.prompts[prompt].slots.push(index);
        population.slots.push(Slot {
            prompt,
            shots: [Some(index), None],
        });
        population.shots.push(Shot {
            side: 0,
            folder: 0,
            name: String::new(),
            path: PathBuf::new(),
            slot: index,
            key: String::new(),
        });
    }
    population
}
