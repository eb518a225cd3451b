//! Everything that is checked and worked out before the first picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::Hashes;
use super::cut;
use super::filter::Filter;
use super::{Error, Format, Plan, Request, Result, Shard, Size, UNIT};
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::data::manifest::{DatasetManifest, Layout};
use crate::data::noise::Drawn;
use crate::diffusion::decode::Scaling;
use crate::diffusion::guidance::{Guidance, GuidanceKind};
use crate::diffusion::lost::{Lost, Tokenizers};
use crate::diffusion::pipeline::Settings;
use crate::diffusion::schedule::{self, SchedulerConfig};
use crate::diffusion::share;
use crate::diffusion::text::TextShape;
use crate::family::ports::unet;
use crate::family::{TIME_IDS, size_conditions};
use crate::judge::chain;
use crate::lora;
use crate::lora::Fitted;
use crate::nets::read_config;
use crate::nets::unet::{UnetConfig, sample_size};
use crate::nets::vae::VaeConfig;
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
    /// Pictures that share their noise with those that the LoRA was trained on, where that is known.
    pub(super) shared: Option<usize>,
    pub(super) manifest: DatasetManifest,
}

/// Checks a request against its inputs.
pub(super) fn prepare(request: &Request) -> Result<Setup> {
    let guidance = guidance(request)?;
    let list = prompts::read(&request.prompts)?;
    let axes = match &request.axes {
        Some(path) => Some((Axes::load(path)?, fsio::read(path)?)),
        None => None,
    };
    let plan = Plan::new(
        &list.texts,
        axes.as_ref().map(|(axes, _)| axes),
        request.neutral,
        request.specific,
    )?;
    let bundle = Bundle::open(&request.model)?;
    let (size, settings) = settings(request, &bundle, guidance)?;
    let negative = settings.negative(request.negative.as_deref(), &bundle)?;
    let named = axes.as_ref().filter(|_| request.specific > 0);
    let lost = lost(&bundle, &list.texts, named, (&plan, negative.as_deref()))?;
    let runtime = Runtime::load()?;
    let ep = runtime::resolve(&runtime, &request.session)?;
    let own = || share::batch(settings.latent);
    let batch = request.batch.unwrap_or_else(own).min(UNIT);
    let chain = match &request.filter {
        Some(name) => Some(chain::locate(name)?),
        None => None,
    };
    let session = session(request, ep, batch, &settings);
    let hashes = Hashes {
        prompts: fsio::sha256(&request.prompts)?,
        axes: axes.as_ref().map(|(_, bytes)| fsio::sha256_bytes(bytes)),
        lora: settings.lora.as_ref().map(|(fitted, _)| hash(fitted)),
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
    let mut manifest = DatasetManifest::new(config, versions, layout(size, &settings, &plan));
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
        size,
        bundle,
        runtime,
        plan,
        settings,
        batch,
    })
}

/// What the captions and the negative one lose, where they are too long; `named` are the axes that
/// specific captions name.
fn lost(
    bundle: &Bundle,
    texts: &[String],
    named: Option<&(Axes, Vec<u8>)>,
    (plan, negative): (&Plan, Option<&str>),
) -> Result<Lost> {
    let tokenizers = Tokenizers::open(bundle)?;
    if let Some((axes, _)) = named {
        cut::refuse(&tokenizers, texts, axes)?;
    }
    let captions = plan.captions().iter().map(String::as_str);
    Ok(tokenizers.lost(captions.chain(negative))?)
}

/// The pictures' size, and what is common to their drawing.
fn settings(request: &Request, bundle: &Bundle, guidance: Guidance) -> Result<(Size, Settings)> {
    let text = TextShape::of(bundle)?;
    let Geometry { size, latent } = Geometry::of(request, bundle)?;
    // Workers read it again when they load the VAE; bad keys are refused now.
    Scaling::of(bundle, latent[0])?;
    let scheduler = SchedulerConfig::read(&bundle.dir().join("scheduler/scheduler_config.json"));
    let scheduler = scheduler.map_err(schedule::Error::from)?;
    let settings = Settings {
        seed: request.seed,
        sampler: request.sampler.set_up(&scheduler, request.steps)?,
        train_timesteps: scheduler.train_timesteps,
        guidance,
        latent,
        text,
        time_ids: size_conditions(size.height, size.width),
        lora: fit_lora(request, bundle)?,
    };
    Ok((size, settings))
}

/// What the data set's arrays look like.
fn layout(size: Size, settings: &Settings, plan: &Plan) -> Layout {
    let text = settings.text;
    Layout {
        width: size.width,
        height: size.height,
        latent: settings.latent,
        prompt_embeds: [text.tokens, text.width],
        pooled: text.pooled,
        captions: plan.captions().len(),
        images: plan.len(),
        unit_images: UNIT,
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

fn guidance(request: &Request) -> Result<Guidance> {
    let (scale, annealing) = (request.cfg, request.annealing.unwrap_or_default());
    match request.guidance {
        GuidanceKind::Cfg if request.annealing.is_some() => Err(Error::Option {
            option: "guidance",
            value: "cfg".into(),
            problem: "it anneals nothing; --annealing is for cads and dynamic-cfg".into(),
        }),
        GuidanceKind::Cfg => Ok(Guidance::Cfg(scale)),
        GuidanceKind::Cads => Ok(Guidance::Cads(scale, annealing)),
        GuidanceKind::DynamicCfg => Ok(Guidance::DynamicCfg(scale, annealing)),
        GuidanceKind::FairDiffusion => Err(Error::NotYet {
            what: "--guidance fair-diffusion".into(),
        }),
    }
}

/// Sizes of pictures and latents.
struct Geometry {
    size: Size,
    latent: [usize; 3],
}

impl Geometry {
    fn of(request: &Request, bundle: &Bundle) -> Result<Self> {
        let dir = bundle.dir();
        bundle.part(Part::Unet)?;
        bundle.part(Part::VaeDecoder)?;
        let unet: UnetConfig = read_config(&dir.join("unet/config.json"))?;
        let vae: VaeConfig = read_config(&dir.join("vae_decoder/config.json"))?;
        let model = |problem: String| Error::Model {
            dir: dir.to_path_buf(),
            problem,
        };
        if unet.in_channels != vae.latent_channels {
            return Err(model(format!(
                "its UNet takes {} channels and its VAE has {}; inpainting and editing models \
                 can't draw from text alone",
                unet.in_channels, vae.latent_channels
            )));
        }
        let factor = vae.factor() as usize;
        let size = match request.size {
            Some(size) => size,
            None => own_size(bundle, factor)?
                .ok_or_else(|| model("unet/config.json has no `sample_size`; say --size".into()))?,
        };
        check_multiple(size, factor * unet.size_multiple() as usize)?;
        let latent = [
            unet.in_channels as usize,
            size.height / factor,
            size.width / factor,
        ];
        Ok(Self { size, latent })
    }
}

/// Refuses a size that the model can't draw, and names what is near.
fn check_multiple(size: Size, multiple: usize) -> Result<()> {
    for (side, pixels) in [("width", size.width), ("height", size.height)] {
        if pixels.is_multiple_of(multiple) {
            continue;
        }
        let high = pixels.next_multiple_of(multiple);
        let near = match pixels / multiple * multiple {
            0 => format!("{high}"),
            low => format!("{low} or {high}"),
        };
        return Err(Error::Option {
            option: "size",
            value: size.to_string(),
            problem: format!(
                "the {side} must be a multiple of {multiple} for this model, such as {near}"
            ),
        });
    }
    Ok(())
}

/// The size that the model was trained for.
fn own_size(bundle: &Bundle, factor: usize) -> Result<Option<Size>> {
    let config = bundle.json("unet/config.json")?;
    Ok(sample_size(&config).map(|[height, width]| Size {
        width: width as usize * factor,
        height: height as usize * factor,
    }))
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
    let pictures = (0..plan.len()).map(|index| plan.picture(index));
    let shared = pictures
        .filter(|picture| trained.has(request.seed, caption_id(picture.caption), picture.image_id));
    Ok(Some(shared.count()))
}

/// A hash of the factors as they are fed.
fn hash(fitted: &Fitted) -> String {
    let mut hasher = Sha256::new();
    for (name, values, [rows, columns]) in fitted.inputs() {
        hasher.update(format!("{name} [{rows}, {columns}]\n"));
        hasher.update(bytemuck::cast_slice::<f32, u8>(values));
    }
    hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// What the run's sessions share. One TensorRT engine serves every batch size.
fn session(request: &Request, ep: Ep, batch: usize, settings: &Settings) -> SessionOptions {
    let mut options = SessionOptions {
        ep,
        ..request.session.clone()
    };
    if ep == Ep::TensorRt {
        let rows = if settings.guidance.doubles() {
            2 * batch
        } else {
            batch
        };
        let shapes = |rows| profile(rows, settings);
        options.tensorrt.profile = Some([shapes(1), shapes(rows), shapes(rows)]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_does_not_fit_is_told_what_would() {
        let check = |width, height| {
            let problem = check_multiple(Size { width, height }, 16);
            problem.map_err(|error| error.to_string())
        };
        assert_eq!(check(32, 16), Ok(()));
        assert!(check(40, 16).unwrap_err().ends_with("such as 32 or 48"));
        assert!(check(32, 8).unwrap_err().ends_with("such as 16"));
    }
}
