//! Everything that is checked and worked out before the first picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::Hashes;
use super::config::{Rejected, Until};
use super::cut;
use super::filter::Filter;
use super::geometry::Geometry;
use super::identity::Identities;
use super::projected::Parts;
use super::{Error, Format, GuidanceKind, Plan, Request, Result, Shard, Size, UNIT};
use crate::base::fsio;
use crate::bundle::Bundle;
use crate::data::manifest::{DatasetManifest, Layout};
use crate::data::noise::Drawn;
use crate::diffusion::decode::Scaling;
use crate::diffusion::guidance::Guidance;
use crate::diffusion::lost::{Lost, Tokenizers};
use crate::diffusion::pipeline::Settings;
use crate::diffusion::schedule::{self, SchedulerConfig};
use crate::diffusion::share;
use crate::diffusion::text::TextShape;
use crate::family::ports::unet;
use crate::family::{SizeConditions, TIME_IDS};
use crate::judge::chain;
use crate::lora;
use crate::lora::Fitted;
use crate::prompts;
use crate::prompts::{Axes, caption_id};
use crate::runtime;
use crate::runtime::{Ep, Runtime, SessionOptions};

/// A checked request.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) bundle: Bundle,
    pub(super) runtime: Runtime,
    /// Execution provider (resolved), device and all that sessions share.
    pub(super) session: SessionOptions,
    /// Threads of the whole run.
    pub(super) threads: usize,
    pub(super) plan: Plan,
    /// What neutral pictures are drawn towards, where the method draws that.
    pub(super) identities: Option<Identities>,
    /// What of embeddings is projected, where the method does that.
    pub(super) parts: Option<Parts>,
    pub(super) repeated: usize,
    /// What captions lose that are too long.
    pub(super) lost: Lost,
    /// The axes, and their file's bytes for the data set's folder.
    pub(super) axes: Option<(Axes, Vec<u8>)>,
    /// The sanity filter's chain.
    pub(super) chain: Option<PathBuf>,
    pub(super) settings: Settings,
    /// The negative caption, unless zeros stand for it or there is no guidance.
    pub(super) negative: Option<String>,
    pub(super) size: Size,
    pub(super) batch: usize,
    pub(super) shard: Shard,
    pub(super) format: Format,
    /// Whether pictures that the filter drops are not written.
    pub(super) deletes: bool,
    /// Pictures that share their noise with those that the LoRA was trained on, where that is known.
    pub(super) shared: Option<usize>,
    pub(super) manifest: DatasetManifest,
}

/// Checks a request against its inputs.
pub(super) fn prepare(request: &Request) -> Result<Setup> {
    let guidance = request.steering.guidance()?;
    let list = prompts::read(&request.prompts)?;
    let axes = match &request.axes {
        Some(path) => Some((Axes::load(path)?, fsio::read(path)?)),
        None => None,
    };
    let named = axes.as_ref().map(|(axes, _)| axes);
    let until = until(request)?;
    let mut plan = match until {
        Some(until) => Plan::until(&list.texts, named, until)?,
        None => Plan::new(&list.texts, named, request.neutral, request.specific)?,
    };
    let identities = Identities::of(request, named, &list.texts)?;
    let captions = identities.as_ref().map(Identities::captions);
    for caption in captions.into_iter().flatten() {
        plan.also(caption)?;
    }
    let bundle = Bundle::open(&request.model)?;
    let geometry = Geometry::of(request, &bundle)?;
    let parts = Parts::of(request, &bundle)?;
    let settings = settings(request, &bundle, guidance, &geometry)?;
    let size = geometry.size;
    let negative = settings.negative(request.negative.as_deref(), &bundle)?;
    let specific = until.map_or(request.specific, |until| until.specific);
    let said = specific > 0 || request.steering.kind == GuidanceKind::Resample;
    let named = named.filter(|_| said);
    let lost = lost(&bundle, &list.texts, named, (&plan, negative.as_deref()))?;
    let runtime = Runtime::load()?;
    let ep = runtime::resolve(&runtime, &request.session)?;
    let own = || share::batch(settings.latent);
    let batch = request.batch.unwrap_or_else(own).min(UNIT);
    let chain = match &request.filter {
        Some(name) => Some(chain::locate(name)?),
        None => None,
    };
    let edits = identities.as_ref().map_or(0, Identities::edits);
    let session = session(
        request,
        ep,
        batch * settings.guidance.rows(edits),
        &settings,
    );
    let hashes = Hashes {
        prompts: fsio::sha256(&request.prompts)?,
        axes: axes.as_ref().map(|(_, bytes)| fsio::sha256_bytes(bytes)),
        lora: settings.lora.as_ref().map(|(fitted, _)| fitted.sha256()),
        chain: match &chain {
            Some(path) => Some(open_filter(path, &runtime, &session, axes.as_ref())?.identity()),
            None => None,
        },
    };
    let config = request.config(&bundle, &hashes, (size, batch, ep))?;
    let versions = BTreeMap::from([
        ("popalign".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("onnxruntime".to_owned(), runtime.version()),
    ]);
    let shared = shared(request, &plan)?;
    let mut manifest = DatasetManifest::new(config, versions, layout(&geometry, &settings, &plan));
    manifest.shared_with_training = shared;
    Ok(Setup {
        negative,
        lost,
        session,
        threads: request.session.threads,
        manifest,
        shared,
        axes,
        chain,
        repeated: list.repeated,
        shard: request.shard,
        format: request.format,
        deletes: request.rejected == Rejected::Delete,
        size,
        bundle,
        runtime,
        plan,
        identities,
        parts,
        settings,
        batch,
    })
}

/// What is to pass the filter, where that is asked for.
fn until(request: &Request) -> Result<Option<Until>> {
    let refused = |option: &'static str, value: String, problem: &str| Error::Option {
        option,
        value,
        problem: problem.to_owned(),
    };
    if request.rejected == Rejected::Delete && request.format == Format::None {
        let problem = "--format none keeps no pictures that could be deleted";
        return Err(refused("rejected", "delete".into(), problem));
    }
    let Some(until) = request.until else {
        return Ok(None);
    };
    let value = format!("{},{}", until.neutral, until.specific);
    if request.filter.is_none() {
        return Err(refused("until", value, "it counts what passes a --filter"));
    }
    if request.axes.is_none() && until.neutral != until.specific {
        let problem = "without --axes there are no specific captions";
        return Err(refused("until", value, problem));
    }
    Ok(Some(until))
}

/// What the captions and the negative one lose, where they are too long; `named` are the axes that
/// specific captions name.
fn lost(
    bundle: &Bundle,
    texts: &[String],
    named: Option<&Axes>,
    (plan, negative): (&Plan, Option<&str>),
) -> Result<Lost> {
    let tokenizers = Tokenizers::open(bundle)?;
    if let Some(axes) = named {
        cut::refuse(&tokenizers, texts, axes)?;
    }
    let captions = plan.captions().iter().map(String::as_str);
    Ok(tokenizers.lost(captions.chain(negative))?)
}

/// What is common to the pictures' drawing.
fn settings(
    request: &Request,
    bundle: &Bundle,
    guidance: Guidance,
    geometry: &Geometry,
) -> Result<Settings> {
    let text = TextShape::of(bundle)?;
    let &Geometry {
        size,
        latent,
        conditions,
    } = geometry;
    let whole = || SizeConditions::whole(size.height, size.width);
    // Workers read it again when they load the VAE; bad keys are refused now.
    Scaling::of(bundle, latent[0])?;
    let scheduler = SchedulerConfig::read(&bundle.dir().join("scheduler/scheduler_config.json"));
    let scheduler = scheduler.map_err(schedule::Error::from)?;
    Ok(Settings {
        seed: request.seed,
        sampler: request.sampler.set_up(&scheduler, request.steps)?,
        train_timesteps: scheduler.train_timesteps,
        guidance,
        latent,
        text,
        time_ids: conditions.unwrap_or_else(whole).time_ids(),
        lora: fit_lora(request, bundle)?,
    })
}

/// What the data set's arrays look like.
fn layout(geometry: &Geometry, settings: &Settings, plan: &Plan) -> Layout {
    let text = settings.text;
    Layout {
        width: geometry.size.width,
        height: geometry.size.height,
        latent: settings.latent,
        prompt_embeds: [text.tokens, text.width],
        pooled: text.pooled,
        captions: plan.captions().len(),
        images: plan.places(),
        unit_images: UNIT,
        size_conditions: geometry.conditions,
        ragged: plan.ragged(),
    }
}

/// Loads the sanity filter. Its networks are small: one thread each.
fn open_filter(
    chain: &Path,
    runtime: &Runtime,
    session: &SessionOptions,
    axes: Option<&(Axes, Vec<u8>)>,
) -> Result<Filter> {
    let mut options = SessionOptions {
        threads: 1,
        ..session.clone()
    };
    options.tensorrt.profile = None;
    Filter::open(runtime, chain, &options, axes.map(|(axes, _)| axes))
}

impl Setup {
    /// Loads the sanity filter, if there is one.
    pub(super) fn filter(&self) -> Result<Option<Filter>> {
        let open =
            |path: &PathBuf| open_filter(path, &self.runtime, &self.session, self.axes.as_ref());
        self.chain.as_ref().map(open).transpose()
    }
}

fn fit_lora(request: &Request, bundle: &Bundle) -> Result<Option<(Arc<Fitted>, f32)>> {
    let Some(path) = &request.lora else {
        return Ok(None);
    };
    let info = bundle.lora()?;
    let bad = |path: &Path| {
        let path = path.to_path_buf();
        |source| Error::Lora { path, source }
    };
    let adapter = lora::read(path).map_err(bad(path))?;
    let fitted = adapter
        .fit(&info.modules, info.rank as usize)
        .map_err(bad(path))?;
    Ok(Some((Arc::new(fitted), request.lora_scale)))
}

/// How many of the pictures share their noise with those that the LoRA was trained on; nothing where
/// there is none, or its folder doesn't say.
fn shared(request: &Request, plan: &Plan) -> Result<Option<usize>> {
    let Some(lora) = &request.lora else {
        return Ok(None);
    };
    let folder = match lora.is_dir() {
        true => lora.as_path(),
        false => lora.parent().unwrap_or(Path::new("")),
    };
    let Some(trained) = Drawn::of_run(folder)? else {
        return Ok(None);
    };
    let pictures = plan.pictures(0..plan.places());
    let shared = pictures
        .filter(|picture| trained.has(request.seed, caption_id(picture.caption), picture.image_id));
    Ok(Some(shared.count()))
}

/// What the run's sessions share. One TensorRT engine serves every number of rows up to `most`.
fn session(request: &Request, ep: Ep, most: usize, settings: &Settings) -> SessionOptions {
    let mut options = SessionOptions {
        ep,
        ..request.session.clone()
    };
    if ep == Ep::TensorRt {
        let shapes = |rows| profile(rows, settings);
        options.tensorrt.profile = Some([shapes(1), shapes(most), shapes(most)]);
    }
    options
}

/// The shapes of the UNet's inputs at so many rows, as TensorRT's provider takes them.
fn profile(rows: usize, settings: &Settings) -> String {
    let [c, h, w] = settings.latent;
    let TextShape {
        tokens,
        width,
        pooled,
        ..
    } = settings.text;
    let mut shapes = vec![
        format!("{}:{rows}x{c}x{h}x{w}", unet::SAMPLE),
        format!("{}:{rows}x{tokens}x{width}", unet::ENCODER_HIDDEN_STATES),
    ];
    if let Some(length) = pooled {
        shapes.push(format!("{}:{rows}x{length}", unet::TEXT_EMBEDS));
        shapes.push(format!("{}:{rows}x{TIME_IDS}", unet::TIME_IDS));
    }
    shapes.join(",")
}
