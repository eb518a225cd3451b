//! `pa-score`: measures populations of pictures, and shows what changed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use indicatif::ProgressBar;
use popalign::base::{Stop, fsio};
use popalign::cli::{self, Common, Outcome};
use popalign::runtime::SessionOptions;
use popalign::score::report::{Card, PICTURE_BUDGET, Report};
use popalign::score::request::{COMPARISONS, RESAMPLES};
use popalign::score::{self, Error, Event, Request, choice, human, training};
use serde_json::json;

/// Score pictures: who is in them, how far that is from the target, how good they are
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example: pa-score out/after --against out/before --model out/demo --html report.html",
    after_long_help = "Examples:\n  \
        pa-score out/after --against out/before --model out/demo --html report.html\n  \
        pa-score photos --chain faces --out scores.json\n  \
        pa-score out/after --against out/before --metrics gender,gender+skin,recall\n  \
        pa-score out/after --against out/before --model out/demo --card out/lora/README.md\n\n\
        A folder of pictures may be a data set of pa-datagen, an imagefolder with metadata.jsonl \
        or metadata.csv (captions under Prompt, prompt, text or caption, the first that isn't blank; \
        in the folder or in those of its splits), or folders \
        named by their prompts. A picture may have its caption beside it instead: x.json with a \
        prompt, or the first line of x.caption or x.txt. PNG, JPEG, WebP, BMP, GIF and TIFF are read, \
        whatever the files' names. The last lines say which pictures were left out, and why; \
        nothing left to score is a failure."
)]
struct Args {
    /// Folders of pictures to score
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Folders to compare with (before), each with the DIR of the same place (after)
    #[arg(long, value_name = "DIR", num_args = 1..)]
    against: Vec<PathBuf>,
    /// Bundle that brings CLIP, reference pictures, axes and a chain (pa-export)
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// Folder of published weights (ViT-B-32.pt, HPS_v2.1_compressed.pt …), or a cache of the hub's
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Axes file [default: axes.toml beside the chain, else what the chain measures]
    #[arg(long, value_name = "F")]
    axes: Option<PathBuf>,
    /// Classifier chain: a file, or the name of one that ships [default: the bundle's, else faces]
    #[arg(long, value_name = "NAME|F")]
    chain: Option<String>,
    /// Target shares instead of the axes file's: TOML, gender = { female = 0.5, male = 0.5 }
    #[arg(long, value_name = "F")]
    target: Option<PathBuf>,
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(help = choice::help(), long_help = choice::long_help())]
    metrics: Option<Vec<String>>,
    /// Resamples for 95% intervals; 0 for no intervals
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = RESAMPLES)]
    bootstrap: u32,
    /// Write everything as JSON
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
    /// Write a report for people, in one file
    #[arg(long, value_name = "F")]
    html: Option<PathBuf>,
    /// Put the table of figures into this model card (README.md of pa-finetune's folder)
    #[arg(long, value_name = "F")]
    card: Option<PathBuf>,
    /// Folder of the training run (pa-finetune): for the report's curves, and to tell pictures that share
    /// their noise with those that were trained on
    #[arg(long, value_name = "DIR")]
    training: Option<PathBuf>,
    /// Write sheets for people to compare N pairs of picture sets
    #[arg(long, value_name = "N", requires = "against", value_parser = COMPARISONS)]
    human_eval: Option<u32>,
    /// Folder of the sheets and their key [default: human-eval beside --out, --html or here]
    #[arg(long, value_name = "DIR")]
    human_dir: Option<PathBuf>,
    /// Filled-in sheets, joined into one CSV
    #[arg(long, value_name = "F")]
    human_ratings: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    fn request(&self) -> Request {
        Request {
            dirs: self.dirs.clone(),
            against: self.against.clone(),
            model: self.model.clone(),
            weights: self.weights.clone(),
            axes: self.axes.clone(),
            chain: self.chain.clone(),
            target: self.target.clone(),
            metrics: self.metrics.clone(),
            training: self.training.clone(),
            bootstrap: self.bootstrap,
            seed: self.common.seed,
            session: SessionOptions::from(&self.common),
        }
    }

    fn human_dir(&self) -> PathBuf {
        if let Some(dir) = &self.human_dir {
            return dir.clone();
        }
        let beside = self.out.as_deref().or(self.html.as_deref());
        let beside = beside.and_then(Path::parent).unwrap_or(Path::new(""));
        beside.join("human-eval")
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.against.is_empty() && args.against.len() != args.dirs.len() {
        let (dirs, against) = (args.dirs.len(), args.against.len());
        let problem = format!("--against names {against} folders for {dirs} to score");
        Args::command()
            .error(ErrorKind::WrongNumberOfValues, problem)
            .exit();
    }
    cli::main(move |stop| match score_all(&args, stop) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::Interrupted)) => {
            tracing::info!("stopped; nothing was written");
            Ok(Outcome::Interrupted)
        }
        other => other,
    })
}

fn score_all(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.common.threads())
        .build_global()?;
    // What can be refused is refused before the work.
    let log = args.training.as_deref().map(training::read).transpose()?;
    let card = args.card.as_deref().map(Card::open).transpose()?;
    let ratings = args.human_ratings.as_deref();
    let ratings = ratings.map(|file| human::read_ratings(file, &args.human_dir().join(human::KEY)));
    let ratings = ratings.transpose()?;
    for file in args.out.iter().chain(&args.html) {
        if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
            fsio::create_dir_all(parent)?;
        }
    }
    let json = args.common.json;
    let mut shown = Shown {
        json,
        bar: cli::progress("{bar:30} {pos}/{len} pictures {per_sec} {eta} left"),
    };
    let scored = score::run(&args.request(), stop, &mut |event| shown.show(&event));
    shown.bar.finish_and_clear();
    let mut scored = scored?;
    scored.scores.training = log.as_deref().map(training::summary);
    scored.scores.human = ratings.as_ref().map(|r| json!(r));
    for line in scored.scores.summary() {
        tracing::info!("{line}");
    }
    if let Some(path) = &args.out {
        scored.scores.write(path)?;
        tracing::info!("{}: every number", path.display());
    }
    if let Some(path) = &args.html {
        let report = Report {
            scored: &scored,
            training: log.as_deref(),
            human: ratings.as_ref(),
            picture_budget: PICTURE_BUDGET,
        };
        report.write(path)?;
        tracing::info!("{}: the report", path.display());
    }
    if let (Some(card), Some(path)) = (card, &args.card) {
        card.write(&scored.scores)?;
        tracing::info!("{}: the model card", path.display());
    }
    if let Some(tasks) = args.human_eval {
        let dir = args.human_dir();
        let written = human::write_sheets(&scored, tasks as usize, args.common.seed, &dir)?;
        tracing::info!(
            "{}: {written} comparisons for people, of {tasks} asked for",
            dir.display()
        );
    }
    if let Some(ratings) = &ratings {
        tracing::info!(
            "people: {} tasks left out without an answer, {} questions unanswered",
            ratings.tasks_left_out,
            ratings.unanswered
        );
    }
    for line in scored.scores.left_out_lines() {
        tracing::info!("{line}");
    }
    let scores = &scored.scores;
    cli::event(
        json,
        &json!({"event": "done", "out": args.out, "html": args.html, "axes": scores.axes,
            "left_out": scores.left_out}),
    );
    Ok(Outcome::Done)
}

struct Shown {
    json: bool,
    bar: ProgressBar,
}

impl Shown {
    /// On no terminal, a line for each tenth.
    fn log(&self, pictures: u64, before: u64, of: u64) {
        let tenth = |n: u64| 10 * n / of.max(1);
        if self.bar.is_hidden() && tenth(pictures) > tenth(before) {
            tracing::info!("{pictures}/{of} pictures looked at");
        }
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Start {
                pictures,
                prompts,
                chain,
                metrics,
            } => {
                self.bar.set_length(*pictures);
                let names = metrics.join(", ");
                tracing::info!(
                    "{pictures} pictures of {prompts} prompts, chain {chain}, metrics {names}"
                );
                cli::event(
                    self.json,
                    &json!({"event": "start", "pictures": pictures, "prompts": prompts,
                        "chain": chain, "metrics": metrics}),
                );
            }
            Event::Note(note) => {
                self.bar.suspend(|| tracing::warn!("{note}"));
                cli::event(self.json, &json!({"event": "note", "note": note}));
            }
            Event::Looked(count) => {
                self.bar.inc(*count);
                let (pictures, of) = (self.bar.position(), self.bar.length());
                self.log(pictures, pictures - count, of.unwrap_or(0));
                cli::event(
                    self.json,
                    &json!({"event": "looked", "pictures": pictures, "of": of}),
                );
            }
            Event::Assessing => self.bar.finish_and_clear(),
        }
    }
}
