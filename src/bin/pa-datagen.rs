//! `pa-datagen`: draws the pictures that training and scoring look at.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use popalign::base::Stop;
use popalign::bundle::Target;
use popalign::cli::{self, Common, Outcome};
use popalign::datagen::config::{BATCHES, FACTORS, PICTURES, SCALES, STEPS};
use popalign::datagen::{Event, Finish, Format, Request, Shard, Size, UNIT, run, write_graphs};
use popalign::diffusion::guidance::{Annealing, GuidanceKind};
use popalign::diffusion::samplers::SamplerKind;
use popalign::runtime::SessionOptions;
use serde_json::json;

/// Draw a data set: pictures, latents and text embeddings for a list of prompts
#[derive(Debug, Parser)]
#[command(
    version,
    allow_negative_numbers = true,
    after_help = "Example: pa-datagen --model out/demo --prompts models/demo/prompts/train.csv \
        --axes out/demo/axes.toml --filter out/demo/chain.toml --out out/train",
    after_long_help = "Examples:\n  \
        pa-datagen --model out/demo --prompts models/demo/prompts/train.csv \
        --axes out/demo/axes.toml --filter out/demo/chain.toml --out out/train\n  \
        pa-datagen --model out/sdxl --prompts prompts.csv --axes models/faces/axes.toml --filter faces \
        --out out/train\n  \
        pa-datagen --model out/sdxl --prompts prompts.txt --neutral 8 --out out/plain\n  \
        pa-datagen --model out/demo --prompts models/demo/prompts/heldout.csv \
        --axes out/demo/axes.toml --seed 2 --out out/after \
        --lora out/lora/pytorch_lora_weights.safetensors\n  \
        pa-datagen ... --shard 0/2 & pa-datagen ... --shard 1/2   (the same --out, or merged)\n\n\
        Writes images/, metadata.jsonl (one row per picture: prompt, axis values, seed, verdict, \
        why dropped), latents-*.safetensors, text.safetensors and manifest.json. Killed at any \
        moment, the same command goes on where it stopped and ends with the same bytes. It also makes \
        again what is missing or damaged in a finished data set."
)]
struct Args {
    /// Bundle (pa-export)
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Prompts: .csv or .tsv with a column `Prompt`, `prompt`, `text` or `caption` (the first of these
    /// that isn't blank counts), .json or .jsonl with texts or objects of these names, or .txt with one
    /// on each line
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Folder to write, or to go on with
    #[arg(long, value_name = "DIR", required_unless_present = "write_graph")]
    out: Option<PathBuf>,
    /// Axes of the population and caption templates; without, prompts are captions as they stand
    #[arg(long, value_name = "FILE")]
    axes: Option<PathBuf>,
    /// Pictures per neutral caption
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = PICTURES)]
    neutral: u32,
    /// Pictures per identity-specific caption [default: 10]
    #[arg(long, value_name = "N", requires = "axes", value_parser = PICTURES)]
    specific: Option<u32>,
    /// Sampling steps
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = STEPS)]
    steps: usize,
    /// Guidance scale; 1 or less for none
    #[arg(long, value_name = "SCALE", default_value_t = 5.0, value_parser = SCALES)]
    cfg: f32,
    /// Sampler
    #[arg(long, value_enum, default_value_t = SamplerKind::default())]
    sampler: SamplerKind,
    /// Kind of guidance
    #[arg(long, value_enum, default_value_t = GuidanceKind::Cfg)]
    guidance: GuidanceKind,
    /// How cads and dynamic-cfg fade captions in: nothing of them above time T2 (1 is noise), all
    /// below T1; cads: noise of scale S, rescaled to the share PSI [default: 0.6,0.9,0.25,1]
    #[arg(long, value_name = "T1,T2,S,PSI")]
    annealing: Option<Annealing>,
    /// Negative caption [default: none, as the model's own pipeline has it]
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// Size of the pictures in pixels [default: what the model was trained for]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Pictures drawn at once [default: 8, or 4 large ones]; on the CPU it changes no bit
    #[arg(long, value_name = "N", value_parser = BATCHES)]
    batch: Option<usize>,
    /// LoRA file (PEFT, diffusers or kohya)
    #[arg(long, value_name = "F")]
    lora: Option<PathBuf>,
    /// Multiply the LoRA with this
    #[arg(long, value_name = "SCALE", default_value_t = 1.0, requires = "lora", value_parser = FACTORS)]
    lora_scale: f32,
    #[arg(long, value_name = "i/n", default_value = "0/1", help = format!(
        "Do only every n-th unit of {UNIT} pictures, from i (0 to n-1); whoever ends last joins them"
    ))]
    shard: Shard,
    /// Sanity filter: a classifier chain (its name or manifest); what it can't tell, or tells to be
    /// another than the caption says, is marked as dropped
    #[arg(long, value_name = "CHAIN")]
    filter: Option<String>,
    /// How pictures are kept
    #[arg(long, value_enum, default_value_t = Format::Png)]
    format: Format,
    /// Write graphs made for this run's sizes, as DIR/unet/model.onnx … with links to their weights, and end
    #[arg(long, value_name = "DIR")]
    write_graph: Option<PathBuf>,
    /// Operators of the graphs of --write-graph [default: what --ep has]
    #[arg(long, value_enum, requires = "write_graph")]
    target: Option<Target>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    fn request(&self) -> Request {
        Request {
            model: self.model.clone(),
            prompts: self.prompts.clone(),
            out: self.out.clone().unwrap_or_default(),
            axes: self.axes.clone(),
            neutral: self.neutral,
            specific: self.specific.unwrap_or(10),
            steps: self.steps,
            cfg: self.cfg,
            sampler: self.sampler,
            guidance: self.guidance,
            annealing: self.annealing,
            negative: self.negative.clone(),
            size: self.size,
            batch: self.batch,
            lora: self.lora.clone(),
            lora_scale: self.lora_scale,
            shard: self.shard,
            filter: self.filter.clone(),
            format: self.format,
            seed: self.common.seed,
            session: SessionOptions::from(&self.common),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::main(move |stop| generate(&args, stop))
}

fn generate(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    let request = args.request();
    if let Some(dir) = &args.write_graph {
        let written = write_graphs(&request, args.target, dir)?;
        cli::written(args.common.json, &written);
        return Ok(Outcome::Done);
    }
    let mut shown = Shown::new(args.common.json);
    let finish = run(&request, stop, &mut |event| shown.show(&event));
    shown.bar.finish_and_clear();
    Ok(shown.finish(&request.out, finish?))
}

/// Shows a run: a bar on a terminal, log lines otherwise, events for who asked for them.
struct Shown {
    json: bool,
    bar: ProgressBar,
    /// Steps of a picture; the bar counts them, so that it moves on slow machines.
    steps: usize,
    todo: usize,
    drawn: usize,
    dropped: BTreeMap<String, usize>,
    start: Instant,
    logged: Instant,
}

impl Shown {
    fn new(json: bool) -> Self {
        Self {
            json,
            bar: ProgressBar::hidden(),
            steps: 1,
            todo: 0,
            drawn: 0,
            dropped: BTreeMap::new(),
            start: Instant::now(),
            logged: Instant::now(),
        }
    }

    fn rate(&self) -> f64 {
        self.drawn as f64 / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Repeated(count) => {
                tracing::warn!("{count} prompts stand in the list more than once and count once");
                cli::event(self.json, &json!({"event": "repeated", "prompts": count}));
            }
            Event::Damaged(files) => {
                let (count, first) = (files.len(), &files[0]);
                tracing::warn!(
                    "{count} files are missing or damaged, the first is {first}: they are made again"
                );
                cli::event(self.json, &json!({"event": "damaged", "files": files}));
            }
            Event::Shared { pictures, of } => {
                tracing::warn!(
                    "{pictures} of {of} pictures have the seed, caption and number of pictures that \
                     the LoRA was trained on, and so their noise: draw with another --seed to see \
                     more than what it has learnt by heart"
                );
                cli::event(
                    self.json,
                    &json!({"event": "shared_with_training", "pictures": pictures, "of": of}),
                );
            }
            Event::Truncated(caption) => {
                tracing::warn!("too long for the text encoder, its end is cut off: {caption:?}");
                cli::event(self.json, &json!({"event": "truncated", "prompt": caption}));
            }
            Event::Encoded { done, of } => {
                if done == of {
                    tracing::info!("{of} captions encoded");
                    cli::event(self.json, &json!({"event": "encoded", "captions": of}));
                }
            }
            Event::Start { .. } => self.started(event),
            Event::Stepped(pictures) => self.bar.inc(*pictures as u64),
            Event::Unit {
                unit,
                kept,
                dropped,
            } => self.unit(*unit, *kept, dropped),
        }
    }

    fn started(&mut self, event: &Event<'_>) {
        let Event::Start {
            ep,
            pictures,
            todo,
            captions,
            steps,
            batch,
            workers,
        } = event
        else {
            return;
        };
        (self.steps, self.todo, self.start) = (*steps, *todo, Instant::now());
        tracing::info!(
            "{todo} of {pictures} pictures to draw for {captions} captions, {steps} steps, \
             {workers} x {batch} at once on {ep}"
        );
        cli::event(
            self.json,
            &json!({"event": "start", "ep": ep, "pictures": pictures, "todo": todo,
                "captions": captions, "steps": steps, "batch": batch, "workers": workers}),
        );
        if std::io::stderr().is_terminal() {
            self.bar = bar((todo * steps) as u64, *steps);
        }
    }

    fn unit(&mut self, unit: usize, kept: usize, dropped: &BTreeMap<String, usize>) {
        self.drawn += kept + dropped.values().sum::<usize>();
        for (reason, count) in dropped {
            *self.dropped.entry(reason.clone()).or_default() += count;
        }
        let rate = self.rate();
        if self.bar.is_hidden() && self.logged.elapsed() > Duration::from_secs(5) {
            self.logged = Instant::now();
            let left = (self.todo - self.drawn) as f64 / rate.max(1e-9);
            tracing::info!(
                "{}/{} pictures  {rate:.2}/s  {left:.0} s left{}",
                self.drawn,
                self.todo,
                reasons(&self.dropped)
            );
        }
        self.bar.set_message(reasons(&self.dropped));
        cli::event(
            self.json,
            &json!({"event": "unit", "unit": unit, "kept": kept, "dropped": dropped,
                "drawn": self.drawn, "todo": self.todo, "pictures_per_second": rate}),
        );
    }

    fn finish(&self, out: &std::path::Path, finish: Finish) -> Outcome {
        let (drawn, rate, shown) = (self.drawn, self.rate(), out.display());
        let own = reasons(&self.dropped);
        let mut event = json!({"event": "done", "out": out, "drawn": drawn,
            "pictures_per_second": rate, "dropped": self.dropped});
        let outcome = match finish {
            Finish::Complete(outcome) => {
                let (kept, lost) = (outcome.kept, reasons(&outcome.dropped));
                tracing::info!("{shown}: complete, {kept} pictures kept{lost}; {drawn} drawn now");
                if kept == 0 {
                    tracing::warn!(
                        "the filter kept none: there is nothing to train on or to score"
                    );
                }
                event["kept"] = outcome.kept.into();
                event["dropped"] = json!(outcome.dropped);
                event["complete"] = true.into();
                Outcome::Done
            }
            Finish::UnitsLeft(units) => {
                tracing::info!(
                    "{shown}: this shard is done{own}; {units} units are left, for others or the same \
                      command again"
                );
                event["complete"] = false.into();
                event["units_left"] = units.into();
                Outcome::Done
            }
            Finish::LeftToOthers => {
                tracing::info!(
                    "{shown}: this shard is done{own}; another one will complete the set"
                );
                event["complete"] = false.into();
                Outcome::Done
            }
            Finish::Interrupted(units) => {
                tracing::info!(
                    "{shown}: stopped{own}; the same command goes on with {units} units"
                );
                event["event"] = "interrupted".into();
                event["units_left"] = units.into();
                Outcome::Interrupted
            }
        };
        cli::event(self.json, &event);
        outcome
    }
}

/// ", dropped: 3 ambiguous, 1 unsure_age", or nothing.
fn reasons(dropped: &BTreeMap<String, usize>) -> String {
    let list: Vec<String> = dropped.iter().map(|(r, n)| format!("{n} {r}")).collect();
    match list.is_empty() {
        true => String::new(),
        false => format!(", dropped: {}", list.join(", ")),
    }
}

/// A bar of picture-steps that is labelled in pictures.
fn bar(length: u64, steps: usize) -> ProgressBar {
    let steps = steps as u64;
    let style = ProgressStyle::with_template("{bar:30} {pictures} {rate} {eta} left {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key(
            "pictures",
            move |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let of = state.len().unwrap_or_default() / steps;
                let _ = write!(out, "{}/{of}", state.pos() / steps);
            },
        )
        .with_key(
            "rate",
            move |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.2} pictures/s", state.per_sec() / steps as f64);
            },
        );
    ProgressBar::new(length).with_style(style)
}
