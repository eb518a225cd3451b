//! What `pa-finetune` says while it runs: a bar or lines, and events.

use std::collections::BTreeMap;
use std::path::Path;

use indicatif::ProgressBar;
use popalign::align::validation::Record;
use popalign::align::{Event, Finish};
use popalign::base::LeftOut;
use popalign::cli;
use serde_json::json;

/// What has been shown, and what the end must say.
pub(crate) struct Shown {
    json: bool,
    bar: ProgressBar,
    steps: u32,
    /// What doesn't train: pictures that the filter dropped, and subjects without pairs.
    dropped: LeftOut,
    subjects: Vec<String>,
    /// Reward accuracy of the sets that ended last.
    sets: Option<f64>,
}

impl Shown {
    /// Nothing yet, of a run of so many steps; only rank 0 has a bar.
    pub(crate) fn new(json: bool, first: bool, steps: u32) -> Self {
        Self {
            json,
            bar: match first {
                true => cli::progress("{bar:30} {pos}/{len} {per_sec} {eta} left  {msg}"),
                false => ProgressBar::hidden(),
            },
            steps,
            dropped: LeftOut::default(),
            subjects: Vec::new(),
            sets: None,
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Says how a run ended.
    pub(crate) fn finish(&self, finish: Finish, out: &Path) {
        match finish {
            Finish::Reached(step) => {
                let dir = out.display();
                tracing::info!("{dir}: the target is met after step {step}, the LoRA is written");
                let ended = "target_discrepancy";
                self.left_out(json!({"event": "done", "out": out, "step": step, "ended": ended}));
            }
            Finish::Done => {
                tracing::info!("{}: the LoRA is written", out.display());
                self.left_out(json!({"event": "done", "out": out}));
            }
            Finish::Interrupted(step) => {
                tracing::info!("stopped after step {step}; --resume goes on from there");
                self.left_out(json!({"event": "interrupted", "step": step}));
            }
        }
    }

    /// Says last, and in the last event, what didn't train.
    fn left_out(&self, mut event: serde_json::Value) {
        let subjects = self.subjects.len();
        tracing::info!("{}; {subjects} subjects without pairs", self.dropped);
        event["left_out"] = json!(self.dropped);
        event["subjects_left_out"] = json!(self.subjects);
        cli::event(self.json, &event);
    }

    /// Shows what happens.
    pub(crate) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Start {
                device,
                ranks,
                done,
                steps,
                parameters,
                pairs,
            } => {
                self.steps = *steps;
                self.bar.set_length(u64::from(*steps));
                self.bar.set_position(u64::from(*done));
                self.bar.reset_eta();
                let from = if *done > 0 {
                    format!(", going on after step {done}")
                } else {
                    String::new()
                };
                let shared = match ranks {
                    1 => String::new(),
                    ranks => format!(" in {ranks} ranks"),
                };
                tracing::info!(
                    "{parameters} parameters, {pairs} pairs, {steps} steps on {device}{shared}{from}"
                );
                cli::event(
                    self.json,
                    &json!({"event": "start", "done": done, "steps": steps,
                        "parameters": parameters, "pairs": pairs, "device": device, "ranks": ranks}),
                );
            }
            Event::OffTarget(reason) => {
                tracing::warn!("off target: {reason}");
                cli::event(self.json, &json!({"event": "off_target", "reason": reason}));
            }
            Event::LeftOut(reason) => {
                tracing::warn!("left out: {reason}");
                self.subjects.push((*reason).to_owned());
            }
            Event::Dropped(dropped) => self.dropped = (*dropped).clone(),
            Event::Skipped(skipped) => {
                tracing::warn!("passed over {}: {}", skipped.dir.display(), skipped.reason);
            }
            Event::Step(line) => {
                self.bar.set_position(u64::from(line.step));
                self.sets = line.set_accuracy.or(self.sets);
                let sets = self.sets.map(|share| format!(" (sets {share:.2})"));
                let of_pairs = line.reward_accuracy.zip(line.margin);
                let of_pairs = of_pairs.map(|(accuracy, margin)| {
                    let sets = sets.unwrap_or_default();
                    format!("  accuracy {accuracy:.2}{sets}  margin {margin:+.3}")
                });
                let text = format!(
                    "loss {:.4}{}  {:.1} pictures/s",
                    line.loss,
                    of_pairs.unwrap_or_default(),
                    line.samples_per_second
                );
                if self.bar.is_hidden() {
                    // On no terminal, about fifty lines for a whole run.
                    if line.step.is_multiple_of((self.steps / 50).max(1)) {
                        tracing::info!("step {}/{}  {text}", line.step, self.steps);
                    }
                } else {
                    self.bar.set_message(text);
                }
                cli::event(self.json, &json!({"event": "step", "log": line}));
            }
            Event::Truncated(lost) => {
                tracing::warn!("validation: {lost}");
                cli::event(self.json, &json!({"event": "truncated", "lost": lost}));
            }
            Event::Validating { step, pictures } => {
                self.bar.set_message(format!("drawing {pictures} pictures"));
                tracing::debug!("drawing {pictures} pictures after step {step}");
            }
            Event::Validated(record) => {
                tracing::info!("after step {}: {}", record.step, showed(record));
                cli::event(self.json, &json!({"event": "validation", "log": record}));
            }
            Event::Drawing { round, pictures } => {
                let text = format!("round {}: drawing {pictures} pictures", round.number + 1);
                tracing::debug!("{text}");
                self.bar.set_message(text);
            }
            Event::Drawn(round, record) => {
                tracing::info!("round {}: {}", round.number + 1, showed(record));
                let round = json!({"event": "round", "round": round.number, "log": record});
                cli::event(self.json, &round);
            }
            Event::Saved(dir) => {
                tracing::debug!("saved {}", dir.display());
                cli::event(self.json, &json!({"event": "saved", "checkpoint": dir}));
            }
        }
    }
}

/// What drawn pictures showed, in a line.
fn showed(record: &Record) -> String {
    let number = |d: Option<f64>| d.map_or("unknown".to_owned(), |d| format!("{d:.3}"));
    let each: Vec<String> = record
        .axes
        .iter()
        .map(|axis| format!("{} {}", axis.axis, number(axis.discrepancy)))
        .collect();
    let (mean, each) = (number(record.discrepancy), each.join(", "));
    let (kept, pictures) = (record.kept, record.pictures);
    format!(
        "discrepancy, mean over prompts, {mean} ({each}), {kept} of {pictures} \
         pictures count{}",
        reasons(&record.dropped)
    )
}

/// ", dropped: 3 ambiguous, 1 unsure_age", or nothing.
fn reasons(dropped: &BTreeMap<String, usize>) -> String {
    let list: Vec<String> = dropped.iter().map(|(r, n)| format!("{n} {r}")).collect();
    match list.is_empty() {
        true => String::new(),
        false => format!(", dropped: {}", list.join(", ")),
    }
}
