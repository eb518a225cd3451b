//! `log.jsonl` and the TensorBoard file: one entry a step; `validation.jsonl`: one a validation; `rounds.jsonl`:
//! one a round.
//!
//! All only grow, and a resumed run cuts them back to its checkpoint. What they say of the
//! training is the same bits for a broken and an unbroken run; the times (`seconds`,
//! `samples_per_second`, TensorBoard's wall time) are those of the machine.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::trainer::Report;
use super::validation::{Record, Schedule};
use super::{Result, tfevents};
use crate::base::fsio::Journal;
use crate::base::{fsio, json};

/// The log's file name.
pub const LOG: &str = "log.jsonl";
/// The validations' file name.
pub const VALIDATION: &str = "validation.jsonl";
/// The file of what the rounds of `--online` drew.
pub const ROUNDS: &str = "rounds.jsonl";
/// TensorBoard takes any file whose name holds `tfevents`.
pub const EVENTS: &str = "events.out.tfevents.0.popalign";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The update's number, from 1.
    pub step: u32,
    /// Loss of the global batch, with the weighted part of preserved pictures.
    pub loss: f64,
    /// Share of pairs whose winner has the higher implied reward; ties count half. Null in a run without pairs,
    /// as what follows of pairs.
    pub reward_accuracy: Option<f64>,
    /// The same of sets (the paper's Figure 8), of the draws whose last pair this step trained on; null where
    /// there is none. See [`super::draws`].
    #[serde(default)]
    pub set_accuracy: Option<f64>,
    /// Mean of β (g_w − g_l) over pairs.
    pub margin: Option<f64>,
    /// Offset of the PopAlign loss.
    pub mu: Option<f64>,
    /// Loss of the preserved pictures, unweighted; none without `--preserve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve: Option<f64>,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate.
    pub lr: f64,
    /// Prodigy's estimate of the step size, on which the learning rate is a factor; none of other optimizers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<f64>,
    /// Pictures a second in this step.
    pub samples_per_second: f64,
    /// Duration of this step.
    pub seconds: f64,
    /// The part of it that ONNX Runtime took.
    #[serde(default)]
    pub runtime_seconds: f64,
}

impl Line {
    /// The line of a step that took `seconds`, of which `runtime` in ONNX Runtime.
    pub fn new(report: &Report, seconds: f64, runtime: f64) -> Self {
        Self {
            step: report.step,
            loss: report.loss,
            reward_accuracy: report.pairs.map(|pairs| pairs.accuracy),
            set_accuracy: report.set_accuracy,
            margin: report.pairs.map(|pairs| pairs.margin),
            mu: report.pairs.map(|pairs| pairs.mu),
            preserve: report.preserve,
            grad_norm: report.grad_norm,
            lr: report.lr,
            estimate: report.estimate,
            samples_per_second: report.samples as f64 / seconds.max(1e-9),
            seconds,
            runtime_seconds: runtime,
        }
    }
}

/// The logs of a run.
#[derive(Debug)]
pub struct Logs {
    lines: Journal,
    events: Journal,
    path: PathBuf,
    validations: Option<Records>,
    rounds: Option<Records>,
}

/// A log of what pictures showed, and what stands in it.
#[derive(Debug)]
struct Records {
    lines: Journal,
    path: PathBuf,
    /// What TensorBoard calls it.
    tag: &'static str,
    found: Vec<Record>,
}

impl Records {
    /// Keeps what an unbroken run, which adds a line where it is `due`, has recorded up to `step`.
    fn open(
        path: PathBuf,
        tag: &'static str,
        step: u32,
        due: &dyn Fn(u32) -> bool,
    ) -> Result<Self> {
        let mut found = Vec::new();
        let lines = Journal::open(&path, |line| {
            let record = serde_json::from_str::<Record>(line).ok();
            let record = record.filter(|r| r.step <= step && due(r.step));
            let kept = record.is_some();
            found.extend(record);
            kept
        })?;
        Ok(Self {
            lines,
            path,
            tag,
            found,
        })
    }

    /// What stands there of a step.
    fn of(&self, step: u32) -> Option<&Record> {
        self.found.iter().find(|record| record.step == step)
    }

    /// Adds a record. The events first: what stands in the log isn't made again.
    fn append(&mut self, record: Record, events: &mut Journal) -> Result<()> {
        let tag = self.tag;
        let each = record.axes.iter().map(|axis| {
            let tag = format!("{tag}/discrepancy/{}", axis.axis);
            Some((tag, axis.discrepancy?))
        });
        let mean = record.discrepancy;
        let mean = std::iter::once(mean.map(|d| (format!("{tag}/discrepancy"), d)));
        let values: Vec<(String, f64)> = mean.chain(each).flatten().collect();
        let values: Vec<(&str, f64)> = values.iter().map(|(tag, d)| (tag.as_str(), *d)).collect();
        let event = tfevents::scalars(now(), record.step, &values);
        events.append_bytes(&event)?;
        self.lines.append(&text(&self.path, &record)?)?;
        self.found.push(record);
        Ok(())
    }
}

/// When the run of a folder began, in seconds since 1970: what its file of events says first.
pub(super) fn began(dir: &Path) -> Option<f64> {
    tfevents::began(&std::fs::read(dir.join(EVENTS)).ok()?)
}

impl Logs {
    /// Opens the logs in `dir` with the entries up to `step`, of a run that validates as `schedule`
    /// says, if at all, and whose rounds are of so many steps, if there are any.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub fn open(
        dir: &Path,
        step: u32,
        schedule: Option<Schedule>,
        round: Option<u32>,
    ) -> Result<Self> {
        let path = dir.join(LOG);
        let kept = |line: &str| serde_json::from_str::<Line>(line).is_ok_and(|l| l.step <= step);
        let lines = Journal::open(&path, kept)?;
        let file = dir.join(EVENTS);
        let bytes = if file.exists() {
            fsio::read(&file)?
        } else {
            Vec::new()
        };
        let length = tfevents::kept_length(&bytes, |s| s <= i64::from(step));
        let mut events = Journal::open_at(&file, length as u64)?;
        if length == 0 {
            events.append_bytes(&tfevents::version(now()))?;
        }
        Ok(Self {
            lines,
            events,
            path,
            validations: schedule
                .map(|schedule| {
                    let due = |step| schedule.due(step);
                    Records::open(dir.join(VALIDATION), "validation", step, &due)
                })
                .transpose()?,
            rounds: round
                .map(|length| {
                    let due = |step: u32| step.is_multiple_of(length.max(1));
                    Records::open(dir.join(ROUNDS), "round", step, &due)
                })
                .transpose()?,
        })
    }

    /// Adds a step to both.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<()> {
        self.lines.append(&text(&self.path, line)?)?;
        let mut values = vec![
            ("train/loss", line.loss),
            ("train/grad_norm", f64::from(line.grad_norm)),
            ("train/lr", line.lr),
            ("train/samples_per_second", line.samples_per_second),
        ];
        let of_pairs = [
            ("train/reward_accuracy", line.reward_accuracy),
            ("train/margin", line.margin),
            ("train/mu", line.mu),
        ];
        values.extend(
            of_pairs
                .iter()
                .filter_map(|(tag, value)| Some((*tag, (*value)?))),
        );
        values.extend(line.set_accuracy.map(|share| ("train/set_accuracy", share)));
        values.extend(line.estimate.map(|d| ("train/estimate", d)));
        values.extend(line.preserve.map(|loss| ("train/preserve", loss)));
        let record = tfevents::scalars(now(), line.step, &values);
        Ok(self.events.append_bytes(&record)?)
    }

    /// What the validation after `step` updates found, if it was made.
    pub fn validation(&self, step: u32) -> Option<&Record> {
        self.validations.as_ref()?.of(step)
    }

    /// Adds a validation.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append_validation(&mut self, record: Record) -> Result<()> {
        match &mut self.validations {
            Some(records) => records.append(record, &mut self.events),
            None => Ok(()),
        }
    }

    /// Adds what the round showed that begins after so many updates, unless it stands there: a round that is gone
    /// on with is drawn again.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append_round(&mut self, record: Record) -> Result<()> {
        match &mut self.rounds {
            Some(records) if records.of(record.step).is_none() => {
                records.append(record, &mut self.events)
            }
            _ => Ok(()),
        }
    }

    /// Waits until all are on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.lines.sync()?;
        for records in [&self.validations, &self.rounds].into_iter().flatten() {
            records.lines.sync()?;
        }
        Ok(self.events.sync()?)
    }
}

/// A line of a log.
fn text(path: &Path, line: &impl Serialize) -> Result<String> {
    Ok(json::line(path, "a log", line)?)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}
