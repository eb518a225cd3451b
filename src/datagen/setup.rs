//! Everything that is checked and worked out before the first picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::Hashes;
use super::filter::Filter;
use super::{Error, Format, Plan, Request, Result, Shard, Size, UNIT};
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::data::manifest::{Layout, Manifest};
use crate::diffusion::decode::Scaling;
use crate::diffusion::guidance::{Guidance, GuidanceKind};
use crate::diffusion::pipeline::Settings;
use crate::diffusion::schedule::SchedulerConfig;
use crate::diffusion::text::TextShape;
use crate::judge::chain;
use crate::lora;
use crate::lora::Fitted;
use crate::nets::read_config;
use crate::nets::unet::{UnetConfig, sample_size};
use crate::nets::vae::VaeConfig;
use crate::prompts;
use crate::prompts::Axes;
use crate::runtime;
use crate::runtime::{Ep, Runtime, SessionOptions};

/// Pictures drawn at once unless the user says, for small latents (up to 32×32: a CPU's rate levels
/// off there) and for large ones (where SDXL at 1024×1024 still fits a GPU).
const BATCH: [usize; 2] = [8, 4];
/// Copies of a model that workers may hold in all, in bytes of fp32 weights.
const COPIES: u64 = 1 << 30;

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
    pub(super) manifest: Manifest,
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
    let text = TextShape::of(&bundle)?;
    let geometry = Geometry::of(request, &bundle)?;
    // Workers read it again when they load the VAE; bad keys are refused now.
    Scaling::of(&bundle, geometry.latent[0])?;
    let scheduler = SchedulerConfig::read(&bundle.dir().join("scheduler/scheduler_config.json"))?;
    let sampler = request.sampler.set_up(&scheduler, request.steps)?;
    let settings = Settings {
        seed: request.seed,
        sampler,
        train_timesteps: scheduler.train_timesteps,
        guidance,
        latent: geometry.latent,
        text,
        time_ids: geometry.time_ids(),
        lora: fit_lora(request, &bundle)?,
    };
    let runtime = Runtime::load()?;
    let ep = runtime::resolve(&runtime, &request.session)?;
    let batch = request.batch.unwrap_or(batch(geometry.latent)).min(UNIT);
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
    let config = request.config(&bundle, &hashes, (geometry.size, batch, ep))?;
    let layout = Layout {
        width: geometry.size.width,
        height: geometry.size.height,
        latent: geometry.latent,
        prompt_embeds: [text.tokens, text.width],
        pooled: text.pooled,
        captions: plan.captions().len(),
        images: plan.len(),
        unit_images: UNIT,
    };
    let versions = BTreeMap::from([
        ("popalign".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("onnxruntime".to_owned(), runtime.version()),
    ]);
    Ok(Setup {
        negative: negative(request.negative.as_deref(), &bundle, &settings)?,
        session,
        threads: request.session.threads,
        manifest: Manifest::new(config, versions, layout),
        axes,
        chain,
        repeated: list.repeated,
        shard: request.shard,
        format: request.format,
        size: geometry.size,
        bundle,
        runtime,
        plan,
        settings,
        batch,
    })
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

/// How many workers draw what can be cut into `units`, and the threads of each.
pub(crate) fn workers(bundle: &Bundle, ep: Ep, threads: usize, units: usize) -> (usize, usize) {
    let parameters = |part| bundle.part(part).map_or(0, |part| part.parameters);
    let bytes = 4 * (parameters(Part::Unet) + parameters(Part::VaeDecoder));
    let copies = match ep {
        Ep::Cpu => (COPIES / bytes.max(1)) as usize,
        _ => 1,
    };
    let workers = threads.min(copies).min(units).max(1);
    (workers, threads / workers)
}

/// Pictures drawn at once where nobody says.
pub(crate) fn batch([_, height, width]: [usize; 3]) -> usize {
    BATCH[usize::from(height * width > 32 * 32)]
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
        let multiple = factor * unet.size_multiple() as usize;
        for (side, pixels) in [("width", size.width), ("height", size.height)] {
            if !pixels.is_multiple_of(multiple) {
                let (low, high) = (
                    pixels / multiple * multiple,
                    pixels.next_multiple_of(multiple),
                );
                let near = if low == 0 {
                    format!("{high}")
                } else {
                    format!("{low} or {high}")
                };
                return Err(Error::Option {
                    option: "size",
                    value: size.to_string(),
                    problem: format!(
                        "the {side} must be a multiple of {multiple} for this model, such as {near}"
                    ),
                });
            }
        }
        let latent = [
            unet.in_channels as usize,
            size.height / factor,
            size.width / factor,
        ];
        Ok(Self { size, latent })
    }

    /// SDXL's size conditions: the picture as it is, not cropped.
    fn time_ids(&self) -> [f32; 6] {
        let (h, w) = (self.size.height as f32, self.size.width as f32);
        [h, w, 0.0, 0.0, h, w]
    }
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

/// The negative caption: the user's; else none where SDXL's zeros stand for it, else "".
pub(crate) fn negative(
    asked: Option<&str>,
    bundle: &Bundle,
    settings: &Settings,
) -> Result<Option<String>> {
    if !settings.guidance.doubles() {
        return Ok(None);
    }
    let index = match bundle.file("model_index.json") {
        Some(_) => bundle.json("model_index.json")?,
        None => serde_json::Value::Null,
    };
    // diffusers' default for SDXL's pipeline.
    let key = index.get("force_zeros_for_empty_prompt");
    let zeros = key.and_then(serde_json::Value::as_bool).unwrap_or(true);
    Ok(match asked {
        Some(negative) => Some(negative.to_owned()),
        None if zeros && settings.text.pooled.is_some() => None,
        None => Some(String::new()),
    })
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
        let shapes = |rows: usize| {
            let [c, h, w] = settings.latent;
            let TextShape {
                tokens,
                width,
                pooled,
            } = settings.text;
            let mut text =
                format!("sample:{rows}x{c}x{h}x{w},encoder_hidden_states:{rows}x{tokens}x{width}");
            if let Some(length) = pooled {
                text += &format!(",text_embeds:{rows}x{length},time_ids:{rows}x6");
            }
            text
        };
        options.tensorrt.profile = Some([shapes(1), shapes(rows), shapes(rows)]);
    }
    options
}
