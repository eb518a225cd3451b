//! What a run would take, before it is begun: `--dry-run`.
//!
//! Everything is checked and loaded as for the run. Then every worker draws one batch at the same time,
//! with few steps, decodes, judges and encodes it; nothing is written, so the disk's time is not in the
//! estimate.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::files::encoded;
use super::finish::row;
use super::run::refuse_other_folders;
use super::setup::{self, Setup};
use super::times::timed;
use super::view::{self, Viewer};
use super::{Picture, Request, Result, Times};
use crate::base::fsio;
use crate::data::dataset::LatentsRef;
use crate::data::writer::{latents_name, units_lacking};
use crate::diffusion::painter::{Order, Painter};
use crate::diffusion::pipeline::{Edit, Job, Settings};
use crate::diffusion::schedule::{self, SchedulerConfig};
use crate::diffusion::share;
use crate::diffusion::text::{Embedding, TextEncoders};
use crate::prompts::caption_id;
use crate::runtime::{Ep, SessionOptions};
use crate::store::{Place, Store};

/// Steps of the pictures that are drawn to measure. The first is not counted where there are others: the
/// runtime gets its memory there.
const STEPS: usize = 3;

/// What a run would take.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Captions of the data set.
    pub captions: usize,
    /// Pictures of the data set; the fewest, where captions are drawn until enough pass the filter.
    pub pictures: usize,
    /// Of these, what this run would draw.
    pub todo: usize,
    /// The most that this run would draw.
    pub most: usize,
    /// Steps of each.
    pub steps: usize,
    /// The execution provider.
    pub ep: Ep,
    /// Workers.
    pub workers: usize,
    /// Pictures that each draws at once.
    pub batch: usize,
    /// What this run would write.
    pub bytes: Bytes,
    /// Bytes free where it would write them, where the system says.
    pub free: Option<u64>,
    /// What a picture takes one worker.
    pub each: Times,
    /// What the run would take, without loading and the disk.
    pub time: Duration,
    /// Steps that were measured, of so many pictures.
    pub measured: [usize; 2],
}

/// Bytes of a data set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The pictures, by those that were drawn to measure: unfinished ones, which encode worse.
    pub pictures: u64,
    /// Their latents.
    pub latents: u64,
    /// The captions' embeddings.
    pub text: u64,
    /// The pictures' rows.
    pub rows: u64,
}

impl Bytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.pictures + self.latents + self.text + self.rows
    }
}

/// What one worker measured.
struct Sample {
    /// Time of a step of the batch.
    step: Duration,
    /// Of the whole batch, but for the steps.
    times: Times,
    /// Bytes of the batch's pictures and rows.
    pictures: u64,
    rows: u64,
}

/// Says what a request would take, and writes nothing.
///
/// # Errors
/// As [`run`](fn@super::run), for all that it finds before it draws.
pub fn estimate(request: &Request) -> Result<Estimate> {
    let setup = setup::prepare(request)?;
    let store = Store::open(&request.out)?;
    refuse_other_folders(&store)?;
    let layout = &setup.manifest.layout;
    let units = units_lacking(&store, &setup.manifest)?;
    let units: HashSet<usize> = units.into_iter().collect();
    let mut work = setup.plan.work();
    work.retain(|work| setup.shard.has(work.key));
    work.retain(|work| work.units.clone().any(|unit| units.contains(&unit)));
    let todo = work.iter().map(|work| work.expected(0, 0)).sum();
    let most = work.iter().map(|work| work.pictures).sum();
    let (caption, negative, embedding) = embeddings(&setup)?;
    let (workers, threads) =
        share::workers(&setup.bundle, setup.session.ep, setup.threads, work.len());
    let session = SessionOptions {
        threads,
        ..setup.session.clone()
    };
    let settings = few_steps(request, &setup)?;
    let samples = measure(
        &setup,
        (&session, &settings),
        workers,
        [&caption, &negative],
    )?;
    let steps = setup.settings.sampler.timesteps().len();
    let batch = setup.batch.min(setup.plan.len());
    let count = samples.len() as u32;
    let step = samples.iter().map(|sample| sample.step).sum::<Duration>() / count;
    let sum: Times = samples.iter().map(|sample| sample.times).sum();
    let drawn = count * batch as u32;
    let each = Times {
        unet: step * steps as u32 / batch as u32,
        vae: sum.vae / drawn,
        filter: sum.filter / drawn,
        encode: sum.encode / drawn,
    };
    let per_picture = |bytes: u64| bytes * todo as u64 / u64::from(drawn);
    let text = setup.settings.text;
    let numbers = text.tokens * text.width + text.pooled.unwrap_or(0);
    let captions = layout.captions;
    let drawing = each.total().mul_f64(todo as f64 / workers as f64);
    Ok(Estimate {
        captions,
        pictures: setup
            .plan
            .work()
            .iter()
            .map(|work| work.expected(0, 0))
            .sum(),
        todo,
        most,
        steps: setup.settings.sampler.steps(),
        ep: setup.session.ep,
        workers,
        batch: setup.batch,
        bytes: Bytes {
            pictures: per_picture(samples.iter().map(|sample| sample.pictures).sum()),
            latents: (todo * setup.settings.latent_len() * size_of::<f32>()) as u64,
            text: (captions * numbers * size_of::<f32>()) as u64,
            rows: per_picture(samples.iter().map(|sample| sample.rows).sum()),
        },
        free: match &request.out {
            Place::Folder(dir) => fsio::free(dir),
            Place::Remote(_) => None,
        },
        each,
        time: drawing + embedding * captions as u32,
        measured: [settings.sampler.timesteps().len(), drawn as usize],
    })
}

/// The first caption's embedding, the negative one, and the time that one takes.
fn embeddings(setup: &Setup) -> Result<(Embedding, Embedding, Duration)> {
    let options = SessionOptions {
        threads: setup.threads,
        ..setup.session.clone()
    };
    let mut encoders = TextEncoders::open(&setup.bundle, &setup.runtime, &options)?;
    let first = &setup.plan.captions()[0];
    // The runtime gets its memory in the first run.
    encoders.encode(first)?;
    let mut time = Duration::ZERO;
    let caption = timed(&mut time, || encoders.encode(first))?;
    let negative = match &setup.negative {
        Some(text) => encoders.encode(text)?,
        None => setup.settings.text.zeros(),
    };
    Ok((caption, negative, time))
}

/// The run's settings with few steps.
fn few_steps(request: &Request, setup: &Setup) -> Result<Settings> {
    let path = setup.bundle.dir().join("scheduler/scheduler_config.json");
    let scheduler = SchedulerConfig::read(&path).map_err(schedule::Error::from)?;
    Ok(Settings {
        sampler: request
            .sampler
            .set_up(&scheduler, STEPS.min(request.steps))?,
        ..setup.settings.clone()
    })
}

/// Lets every worker draw a batch at the same time.
fn measure(
    setup: &Setup,
    (session, settings): (&SessionOptions, &Settings),
    workers: usize,
    captions: [&Embedding; 2],
) -> Result<Vec<Sample>> {
    let networks = (0..workers).map(|_| view::open(setup, session, settings));
    let mut networks: Vec<(Painter, Viewer)> = networks.collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let one = |own| scope.spawn(move || sample(setup, own, captions));
        let busy: Vec<_> = networks.iter_mut().map(one).collect();
        let done = busy.into_iter().map(|thread| match thread.join() {
            Ok(sample) => sample,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.collect()
    })
}

/// As many edits as a picture has, whatever they say: each takes its rows of the UNet.
fn edits<'a>(setup: &Setup, picture: &Picture<'_>, caption: &'a Embedding) -> Vec<Edit<'a>> {
    let drawn = setup.identities.as_ref().and_then(|all| all.draw(picture));
    let edits = drawn.map(|drawn| drawn.edits).unwrap_or_default();
    let edit = |(_, away)| Edit {
        caption: caption.into(),
        away,
    };
    edits.into_iter().map(edit).collect()
}

fn sample(
    setup: &Setup,
    (painter, viewer): &mut (Painter, Viewer),
    [caption, negative]: [&Embedding; 2],
) -> Result<Sample> {
    let plan = &setup.plan;
    let pictures = plan.pictures(0..plan.places()).take(setup.batch);
    let pictures: Vec<Picture<'_>> = pictures.collect();
    let edits: Vec<Vec<Edit<'_>>> = pictures
        .iter()
        .map(|picture| edits(setup, picture, caption))
        .collect();
    let orders: Vec<Order<'_>> = pictures
        .iter()
        .zip(&edits)
        .map(|(picture, edits)| Order {
            caption: picture.caption,
            job: Job {
                caption: caption.into(),
                edits,
                prompt_id: caption_id(picture.caption),
                image_id: picture.image_id,
            },
        })
        .collect();
    let mut ends = vec![Instant::now()];
    let mut times = Times::default();
    let mut stepped = || ends.push(Instant::now());
    let latents = painter.draw(&orders, negative.into(), &mut stepped)?;
    let (images, judgements) = viewer.look(&latents, &orders, &pictures, &mut times)?;
    let files: Vec<Vec<u8>> = match (&images, setup.format.extension()) {
        (Some(images), Some(_)) => timed(&mut times.encode, || {
            images
                .iter()
                .map(|image| encoded(image, setup.format))
                .collect::<Result<_>>()
        })?,
        _ => Vec::new(),
    };
    let mut rows = 0;
    for (picture, judgement) in pictures.iter().zip(judgements) {
        let latents = LatentsRef {
            file: latents_name(0),
            index: 0,
        };
        let file = files
            .first()
            .map(|_| (String::new(), fsio::sha256_bytes(b"")));
        let row = row(picture, setup.settings.seed, latents, file, judgement);
        rows += serde_json::to_vec(&row).map_or(0, |row| row.len() as u64 + 1);
    }
    // The first step's end, or what was before it.
    let first = usize::from(ends.len() > 2);
    let steps = (ends.len() - 1 - first) as u32;
    Ok(Sample {
        step: ends[ends.len() - 1].duration_since(ends[first]) / steps.max(1),
        times,
        pictures: files.iter().map(|file| file.len() as u64).sum(),
        rows,
    })
}
