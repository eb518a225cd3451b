//! Loading what drawing needs while training goes on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Result;
use crate::align::validation::Inputs;
use crate::base::{Stop, fsio};
use crate::bundle::{Bundle, Part};
use crate::data::dataset::{Dataset, Kind};
use crate::data::pool::Pool;
use crate::datagen::Plan;
use crate::diffusion::guidance::{Guidance, Interval};
use crate::diffusion::lost::{Lost, Tokenizers};
use crate::diffusion::painter::{self, Developer, Painter};
use crate::diffusion::pipeline::Settings;
use crate::diffusion::samplers::SamplerKind;
use crate::diffusion::share;
use crate::diffusion::text::{Embedding, TextEncoders, TextShape};
use crate::judge::chain;
use crate::judge::chain::{Chain, ChainManifest};
use crate::judge::scales;
use crate::prompts;
use crate::prompts::caption_id;
use crate::runtime::SessionOptions;
use crate::score::choice::Metrics;

/// `pa-datagen`'s defaults, for a data set that doesn't say how it was drawn.
const STEPS: u32 = 50;
const CFG: f32 = 5.0;

/// What pictures are asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Pictures of each caption.
    pub pictures: u32,
    /// Prompts, as `pa-datagen` takes them [default: the data set's neutral captions of people].
    pub prompts: Option<PathBuf>,
    /// Classifier chain [default: the bundle's, then `faces`].
    pub chain: Option<String>,
    /// Sampling steps [default: the data set's].
    pub steps: Option<u32>,
    /// Guidance scale [default: the data set's].
    pub cfg: Option<f32>,
}

/// How pictures are drawn.
#[derive(Debug)]
struct Drawing {
    sampler: SamplerKind,
    steps: u32,
    cfg: f32,
    rescale: Option<f32>,
    interval: Option<Interval>,
    negative: Option<String>,
}

impl Drawing {
    /// As the user says, else as the data set was drawn.
    fn new(asked: &Asked, dataset: &Dataset) -> Self {
        let made = &dataset.manifest().config;
        let text = |key: &str| made.get(key).and_then(Value::as_str);
        let number = |key: &str| made.get(key).and_then(Value::as_f64);
        let sampler = text("sampler").and_then(|name| SamplerKind::from_str(name, false).ok());
        let steps = number("steps").map(|n| n as u32);
        let cfg = number("cfg").map(|n| n as f32);
        Self {
            sampler: sampler.unwrap_or_default(),
            steps: asked.steps.or(steps).unwrap_or(STEPS),
            cfg: asked.cfg.or(cfg).unwrap_or(CFG),
            rescale: number("guidance_rescale").map(|n| n as f32),
            interval: text("cfg_interval").and_then(|interval| interval.parse().ok()),
            negative: text("negative").map(str::to_owned),
        }
    }
}

/// Everything that drawing and looking need, loaded.
#[derive(Debug)]
pub(super) struct Studio {
    pub(super) plan: Plan,
    /// By the id of their caption.
    pub(super) embeddings: HashMap<u32, Embedding>,
    pub(super) negative: Embedding,
    pub(super) painters: Vec<(Painter, Developer)>,
    /// Pictures a painter draws at once.
    pub(super) batch: usize,
    pub(super) chain: Chain,
    pub(super) metrics: Metrics,
    pub(super) facts: Value,
    pub(super) lost: Lost,
    pub(super) stop: Stop,
}

impl Studio {
    /// Checks what is asked for against what there is, encodes the captions and loads the networks.
    pub(super) fn open(asked: &Asked, inputs: &Inputs<'_>) -> Result<Self> {
        let Inputs {
            bundle,
            runtime,
            session,
            ..
        } = *inputs;
        let dataset = &inputs.pool.sets()[0];
        let (width, height) = dataset.size();
        let plan = plan(asked, inputs)?;
        let drawing = Drawing::new(asked, dataset);
        let settings = settings(&drawing, inputs)?;
        let chain_path = chain::choose(asked.chain.as_deref(), Some(bundle))?;
        let manifest = ChainManifest::read(&chain_path)?;
        let scales = match inputs.axes {
            Some(axes) => scales::from_axes(axes, &manifest)?,
            None => scales::from_chain(&manifest),
        };
        let chain = Chain::open(runtime, &chain_path, session)?;
        let (embeddings, negative) = encode(asked, inputs, &plan, &settings, &drawing)?;
        let batch = share::batch(settings.latent).min(plan.len());
        let units = plan.len().div_ceil(batch);
        let (workers, threads) = share::workers(bundle, session.ep, session.threads, units);
        let each = SessionOptions {
            threads,
            ..session.clone()
        };
        let painter = || painter::open(bundle, runtime, &each, &settings, Some([height, width]));
        let painters = std::iter::repeat_with(painter).take(workers);
        let lost = lost(asked, bundle, &plan, &settings, &drawing)?;
        let mut studio = Self {
            painters: painters.collect::<std::result::Result<_, _>>()?,
            plan,
            embeddings,
            negative,
            batch,
            chain,
            metrics: Metrics::axes(scales),
            facts: Value::Null,
            lost,
            stop: inputs.stop.clone(),
        };
        studio.facts = studio.describe(asked, &drawing, bundle)?;
        Ok(studio)
    }

    /// What its pictures depend on.
    fn describe(&self, asked: &Asked, drawing: &Drawing, bundle: &Bundle) -> Result<Value> {
        let captions = self.plan.captions().join("\n");
        let targets: Vec<Value> = self
            .metrics
            .scales
            .iter()
            .map(|scale| json!([scale.name, scale.values, scale.target]))
            .collect();
        let mut facts = json!({
            "pictures": asked.pictures,
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
        });
        if let Some(rescale) = drawing.rescale {
            facts["guidance_rescale"] = json!(rescale);
        }
        if let Some(interval) = drawing.interval {
            facts["cfg_interval"] = json!(interval.to_string());
        }
        Ok(facts)
    }
}

/// The pictures that are asked for.
fn plan(asked: &Asked, inputs: &Inputs<'_>) -> Result<Plan> {
    let (texts, axes) = match &asked.prompts {
        Some(path) => (prompts::read(path)?.texts, inputs.axes),
        None => (people(inputs.pool), None),
    };
    Ok(Plan::new(&texts, axes, asked.pictures, 0)?)
}

/// The neutral captions of subjects that have identities, in the data set's order; all neutral
/// captions where none has.
fn people(pool: &Pool) -> Vec<String> {
    let neutral = |row: &crate::data::dataset::PictureRow| row.neutral_prompt.clone();
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
        sampler: drawing.sampler.set_up(inputs.scheduler, steps)?,
        train_timesteps: inputs.scheduler.train_timesteps,
        guidance: Guidance {
            rescale: drawing.rescale.unwrap_or(0.0),
            interval: drawing.interval.unwrap_or_default(),
            ..Guidance::plain(drawing.cfg)
        },
        latent: inputs.pool.sets()[0].latent_shape(),
        text,
        time_ids: inputs.pool.sets()[0].time_ids(),
        lora: None,
    })
}

/// What those captions lose that are encoded here, where they are too long: the data set's own were
/// told of when it was drawn.
fn lost(
    asked: &Asked,
    bundle: &Bundle,
    plan: &Plan,
    settings: &Settings,
    drawing: &Drawing,
) -> Result<Lost> {
    let negative = settings.negative(drawing.negative.as_deref(), bundle)?;
    let own = asked.prompts.iter().flat_map(|_| plan.captions());
    let captions = own.map(String::as_str).chain(negative.as_deref());
    Ok(Tokenizers::open(bundle)?.lost(captions)?)
}

/// The captions' embeddings and the negative one. The data set has those of its own captions.
fn encode(
    asked: &Asked,
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
        Ok(encoders.encode(caption)?)
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
            let embedding = match asked.prompts {
                Some(_) => by_encoders(caption)?,
                None => own(caption)?,
            };
            Ok((caption_id(caption), embedding))
        })
        .collect::<Result<_>>()?;
    let named = drawing.negative.as_deref();
    let negative = match settings.negative(named, inputs.bundle)? {
        Some(caption) => by_encoders(&caption)?,
        None => settings.text.zeros(),
    };
    Ok((embeddings, negative))
}
