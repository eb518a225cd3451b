//! What a run needs before its first step: its device, its pairs, and that its options fit together.

use std::path::{Path, PathBuf};

use serde_json::json as object;

use super::config::{Config, Dropped};
use super::factors::FactorSet;
use super::made::Making;
use super::model::UnetGrad;
use super::output::{self, RunManifest};
use super::ranks::Ranks;
use super::request::{PairSource, Request};
use super::{Error, Result};
use crate::base::fsio;
use crate::bundle::{Bundle, Part};
use crate::data::dataset::{Dataset, Kind};
use crate::data::pairs::{self, Pairs};
use crate::data::pool::Pool;
use crate::device::cuda::Cuda;
use crate::diffusion::pipeline::zeros_for_none;
use crate::diffusion::schedule::{self, SchedulerConfig};
use crate::diffusion::text::{Embedding, TextEncoders};
use crate::lora;
use crate::prompts::{Axes, caption_id};
use crate::runtime::{self, Ep, Runtime, SessionOptions};

/// The GPU of a run on CUDA or TensorRT; none for one on the CPU.
pub(super) fn cuda(runtime: &Runtime, options: &SessionOptions) -> Result<Option<Cuda>> {
    if runtime::resolve(runtime, options)? == Ep::Cpu {
        return Ok(None);
    }
    let number = usize::try_from(options.device).unwrap_or_default();
    match Cuda::open(number) {
        Ok(cuda) => Ok(Some(cuda)),
        Err(reason) if options.ep == Ep::Auto => {
            tracing::info!("training on the CPU: {reason}");
            Ok(None)
        }
        Err(reason) => Err(reason.into()),
    }
}

/// Pictures the network takes at once: by default a rank's share of the batch's.
pub(super) fn micro_batch(request: &Request, ranks: &dyn Ranks) -> Result<usize> {
    let (pictures, ranks) = (request.config.paired_pictures(), ranks.size());
    let environment = &request.environment;
    let size = environment.micro_batch.unwrap_or(pictures.div_ceil(ranks));
    if pictures.div_ceil(size) < ranks {
        return Err(Error::Option {
            option: "micro-batch",
            value: size.to_string(),
            problem: format!("{pictures} pictures in such parts are too few for {ranks} ranks"),
        });
    }
    Ok(size)
}

/// Refuses a trace that could not hold a whole step.
pub(super) fn can_trace(request: &Request, pool: &Pool, ranks: &dyn Ranks) -> Result<()> {
    let problem = if sizes(pool) > 1 {
        "a step's file holds pictures of one size, the data sets have several"
    } else if ranks.size() > 1 {
        "a step's file holds the whole batch, of which each rank has a part"
    } else {
        return Ok(());
    };
    match &request.environment.trace {
        None => Ok(()),
        Some(dir) => Err(Error::Option {
            option: "trace",
            value: dir.display().to_string(),
            problem: problem.to_owned(),
        }),
    }
}

/// Refuses rounds that several processes would have to draw.
pub(super) fn can_draw(request: &Request, ranks: &dyn Ranks) -> Result<()> {
    match request.config.online {
        Some(online) if ranks.size() > 1 => Err(Error::Option {
            option: "online",
            value: online.rounds.to_string(),
            problem: format!(
                "rounds are one process's, this run has {} ranks",
                ranks.size()
            ),
        }),
        _ => Ok(()),
    }
}

/// The axes file of a run, if there is one: the user's, the data set's or the bundle's.
fn find_axes(
    request: &Request,
    bundle: &Bundle,
    dataset: &Dataset,
) -> Result<(Option<PathBuf>, Option<Axes>)> {
    let asked = match &request.pairs {
        PairSource::Drawn { axes, .. } | PairSource::Online { axes } => axes.clone(),
        PairSource::File(_) => None,
    };
    let path = match asked {
        Some(path) => Some(path),
        None => dataset.axes()?.or_else(|| bundle.file("axes.toml")),
    };
    let axes = path.as_deref().map(Axes::load).transpose()?;
    Ok((path, axes))
}

/// The pairs, and a hash of what they were made from.
fn find_pairs(
    request: &Request,
    axes_path: Option<&Path>,
    axes: Option<&Axes>,
    dataset: &Pool,
) -> Result<(Pairs, String)> {
    match &request.pairs {
        PairSource::File(path) => {
            let hash = fsio::sha256(path)?;
            let pairs = pairs::read(path, dataset, request.config.sets())?;
            Ok((pairs, format!("file:{hash}")))
        }
        PairSource::Online { .. } => {
            let of_axes = |path| fsio::sha256(path).map(|hash| format!("online:{hash}"));
            let hash = axes_path.map(of_axes).transpose()?;
            Ok((Pairs::none(), hash.unwrap_or_else(|| "online".to_owned())))
        }
        PairSource::Drawn { unfiltered, .. } => {
            if !unfiltered {
                pairs::check_verdicts(dataset, axes)?;
            }
            let hash = match axes_path {
                Some(path) => format!("drawn:{}", fsio::sha256(path)?),
                None => "drawn".to_owned(),
            };
            let config = &request.config;
            let count = match config.epochs {
                None => config.steps as usize * config.batch,
                Some(_) => winners(dataset),
            };
            let (seed, sets) = (config.pair_seed, config.sets());
            Ok((pairs::draw(dataset, axes, seed, count, sets)?, hash))
        }
    }
}

/// How many sizes of pictures there are.
fn sizes(pool: &Pool) -> usize {
    let mut sizes: Vec<_> = pool.sets().iter().map(Dataset::size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.len()
}

/// Pictures that may win: an epoch of drawn pairs is long enough to visit each once.
fn winners(pool: &Pool) -> usize {
    let specific = pool.kept().filter(|(_, row)| row.kind == Kind::Specific);
    specific.count()
}

/// The request with the steps that its epochs take. The last one is filled up with the first pairs of
/// another pass.
fn with_steps(request: &Request, pairs: &Pairs) -> Result<Request> {
    let mut request = request.clone();
    if let Some(epochs) = request.config.epochs {
        let visits = epochs as usize * pairs.list.len();
        let steps = visits.div_ceil(request.config.batch);
        request.config.steps = u32::try_from(steps).unwrap_or(u32::MAX);
        request.config.check()?;
    }
    Ok(request)
}

/// The factors that a run trains, and where they start.
fn find_factors(request: &Request, bundle: &Bundle) -> Result<FactorSet> {
    let factors = FactorSet::new(bundle.lora()?, request.config.rank)?;
    let factors = factors.with_alpha(request.config.alpha_of_lora() as f32);
    let Some(path) = &request.lora_from else {
        return Ok(factors);
    };
    let read = lora::read(path).and_then(|adapter| factors.going_on_from(adapter));
    read.map_err(|source| Error::LoraFrom {
        path: path.clone(),
        source: Box::new(source),
    })
}

/// What a run reads before it loads a network.
pub(super) struct Loaded {
    pub(super) bundle: Bundle,
    pub(super) factors: FactorSet,
    pub(super) scheduler: SchedulerConfig,
    pub(super) pool: Pool,
    pub(super) axes: Option<Axes>,
    pub(super) pairs: Pairs,
    pub(super) manifest: RunManifest,
    /// The request, with the steps that its epochs take.
    pub(super) request: Request,
}

impl Loaded {
    /// Reads everything that a request names.
    ///
    /// # Errors
    /// What can't be read, or doesn't fit.
    pub(super) fn read(request: &Request, runtime: &Runtime) -> Result<Self> {
        let bundle = Bundle::open(&request.model)?;
        bundle.path(Part::UnetGrad)?;
        let factors = find_factors(request, &bundle)?;
        let scheduler = SchedulerConfig::read(&bundle.dir().join(output::SCHEDULER));
        let scheduler = scheduler.map_err(schedule::Error::from)?;
        let pool = Pool::open(&request.data)?;
        let (path, axes) = find_axes(request, &bundle, &pool.sets()[0])?;
        let (pairs, hash) = find_pairs(request, path.as_deref(), axes.as_ref(), &pool)?;
        let request = with_steps(request, &pairs)?;
        let mut manifest = output::describe(&request.config, &bundle, &pool, hash, runtime)?;
        if let Some(sha256) = factors.from_sha256()? {
            manifest.put("lora_from", object!({ "factors_sha256": sha256 }));
        }
        Ok(Self {
            bundle,
            factors,
            scheduler,
            pool,
            axes,
            pairs,
            manifest,
            request,
        })
    }
}

/// The embeddings that stand for a caption, where a run drops some: zeros where these are asked for and the model
/// takes them; else those of the empty caption: the data set's, if it has them, else
/// what the bundle's text encoders make of it, which the manifest then names.
pub(super) fn empty_caption(
    config: &Config,
    bundle: &Bundle,
    pool: &Pool,
    manifest: &mut RunManifest,
    runtime: &Runtime,
    options: &SessionOptions,
) -> Result<Option<Embedding>> {
    if config.caption_dropout == 0.0 {
        return Ok(None);
    }
    if config.dropped_caption == Dropped::Unconditional && zeros_for_none(bundle)? {
        let layout = &pool.sets()[0].manifest().layout;
        return Ok(Some(Embedding {
            prompt_embeds: vec![0.0; layout.prompt_embeds.iter().product()],
            pooled: layout.pooled.map(|length| vec![0.0; length]),
        }));
    }
    if let Ok(found) = pool.embeddings(caption_id("")) {
        return Ok(Some(Embedding {
            prompt_embeds: found.prompt_embeds.to_vec(),
            pooled: found.pooled.map(<[f32]>::to_vec),
        }));
    }
    let empty = TextEncoders::open(bundle, runtime, options)?.encode("")?;
    let layout = &pool.sets()[0].manifest().layout;
    let sizes =
        |tokens, pooled: Option<usize>| format!("{tokens} and {pooled:?} numbers of a caption");
    let data = sizes(layout.prompt_embeds.iter().product(), layout.pooled);
    let encoded = sizes(
        empty.prompt_embeds.len(),
        empty.pooled.as_ref().map(Vec::len),
    );
    if data == encoded {
        manifest.put("text_encoders", output::text_encoders(bundle)?);
        return Ok(Some(empty));
    }
    Err(Error::EmptyCaption { data, encoded })
}

/// The training graph, which must fit all data sets.
pub(super) fn open_model(
    bundle: &Bundle,
    pool: &Pool,
    factors: &FactorSet,
    runtime: &Runtime,
    options: &SessionOptions,
    making: Making,
) -> Result<UnetGrad> {
    let first = &pool.sets()[0];
    let model = UnetGrad::open(runtime, bundle, options, first, factors, making)?;
    for other in &pool.sets()[1..] {
        model.check(bundle, other)?;
    }
    Ok(model)
}
