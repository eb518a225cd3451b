//! How a run is shown: a bar on a terminal, log lines otherwise, events for who asked for them, and a
//! file of figures.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use popalign::base::fsio;
use popalign::cli::{self, Outcome};
use popalign::datagen::{Event, Finish, MetricsFile, Progress, Shard, Times};
use popalign::store::Place;
use serde_json::{Value, json};

/// Time between two log lines.
const EVERY: Duration = Duration::from_secs(5);

/// Shows a run.
pub(crate) struct Shown {
    json: bool,
    /// It counts the steps of pictures, so that it moves on slow machines.
    bar: ProgressBar,
    progress: Progress,
    metrics: Option<MetricsFile>,
    logged: Instant,
}

impl Shown {
    /// Nothing yet, but the file of figures, where there is to be one.
    pub(crate) fn new(json: bool, metrics: Option<PathBuf>, shard: Shard) -> fsio::Result<Self> {
        let progress = Progress::default();
        let create = |path| MetricsFile::create(path, shard, &progress);
        Ok(Self {
            json,
            bar: ProgressBar::hidden(),
            metrics: metrics.map(create).transpose()?,
            progress,
            logged: Instant::now(),
        })
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows an event.
    pub(crate) fn show(&mut self, event: &Event<'_>) {
        self.progress.note(event);
        self.tell(event);
        self.measure(MetricsFile::update);
    }

    /// Writes the figures. A file that could be written before is no reason to lose pictures.
    fn measure(&mut self, write: impl FnOnce(&mut MetricsFile, &Progress) -> fsio::Result<()>) {
        let Some(metrics) = &mut self.metrics else {
            return;
        };
        if let Err(error) = write(metrics, &self.progress) {
            let reason = &error.source;
            tracing::warn!("{error}: {reason}; the figures end here");
            self.metrics = None;
        }
    }

    fn tell(&mut self, event: &Event<'_>) {
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
            Event::Truncated(lost) => {
                tracing::warn!("{lost}");
                cli::event(self.json, &json!({"event": "truncated", "lost": lost}));
            }
            Event::Encoded { done, of } => {
                if done == of {
                    tracing::info!("{of} captions encoded");
                    cli::event(self.json, &json!({"event": "encoded", "captions": of}));
                }
            }
            Event::Short(captions) => {
                let (count, (first, kept, enough)) = (captions.len(), captions[0]);
                tracing::warn!(
                    "{count} captions have fewer pictures that passed the filter than asked for, the \
                     first has {kept} of {enough}: {first:?}; draw more with a higher --until-limit"
                );
                let list: Vec<Value> = captions
                    .iter()
                    .map(|(prompt, kept, enough)| json!({"prompt": prompt, "kept": kept, "enough": enough}))
                    .collect();
                cli::event(self.json, &json!({"event": "short", "captions": list}));
            }
            Event::Start { .. } => self.started(event),
            Event::Stepped(pictures) => self.bar.inc(*pictures as u64),
            Event::Unit {
                unit,
                kept,
                dropped,
                ..
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
        let progress = &self.progress;
        let (drawn, todo, rate) = (progress.drawn(), progress.todo, progress.rate());
        let left = progress.left().map(|left| left.as_secs_f64());
        let lost = reasons(&progress.dropped);
        if self.bar.is_hidden() && self.logged.elapsed() > EVERY {
            self.logged = Instant::now();
            let left = left.unwrap_or_default();
            let shares = shares(&progress.times);
            tracing::info!(
                "{drawn}/{todo} pictures  {rate:.2}/s  {left:.0} s left  {shares}{lost}"
            );
        }
        self.bar
            .set_message(format!("{}{lost}", shares(&progress.times)));
        cli::event(
            self.json,
            &json!({"event": "unit", "unit": unit, "kept": kept, "dropped": dropped,
                "drawn": drawn, "todo": todo, "pictures_per_second": rate,
                "seconds_left": left, "shares": shares_json(&progress.times)}),
        );
    }

    /// Says how a run ended.
    pub(crate) fn finish(mut self, out: &Place, finish: Finish) -> Outcome {
        let whole = !matches!(finish, Finish::Interrupted(_));
        self.measure(|metrics, progress| metrics.end(progress, whole));
        let progress = &self.progress;
        let (drawn, rate, shown) = (progress.drawn(), progress.rate(), out.to_string());
        let own = reasons(&progress.dropped);
        if drawn > 0 {
            let seconds = progress.elapsed().as_secs_f64();
            let shares = shares(&progress.times);
            tracing::info!("{drawn} pictures in {seconds:.1} s, {rate:.2}/s: {shares}");
        }
        let mut event = json!({"event": "done", "out": shown, "drawn": drawn,
            "pictures_per_second": rate, "dropped": progress.dropped,
            "shares": shares_json(&progress.times)});
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

/// What the time goes to: "UNet 84 %, VAE 9 %, filter 4 %, files 3 %", without what is nothing.
pub(crate) fn shares(times: &Times) -> String {
    let titles = ["UNet", "VAE", "filter", "files"];
    let both = titles.into_iter().zip(times.shares());
    let own = both.filter(|(_, (_, share))| *share > 0.0);
    let list: Vec<String> = own
        .map(|(title, (_, share))| format!("{title} {:.0} %", 100.0 * share))
        .collect();
    list.join(", ")
}

/// The same for machines.
pub(crate) fn shares_json(times: &Times) -> Value {
    times
        .shares()
        .into_iter()
        .map(|(name, share)| (name.to_owned(), share.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
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
