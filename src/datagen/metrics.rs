//! A run's figures in Prometheus' text format, as node_exporter's textfile collector reads it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Shard;
use super::progress::Progress;
use crate::base::fsio;

/// Time between two writings: a collector looks every 15 seconds or less often.
const EVERY: Duration = Duration::from_secs(5);

/// The file, which is written anew, whole, while a run goes on.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    shard: String,
    written: Instant,
}

impl MetricsFile {
    /// Writes it for a run that begins.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn create(path: PathBuf, shard: Shard, progress: &Progress) -> fsio::Result<Self> {
        let mut file = Self {
            path,
            shard: shard.to_string(),
            written: Instant::now(),
        };
        file.write(progress, false)?;
        Ok(file)
    }

    /// Writes it, unless it was written just now.
    ///
    /// # Errors
    /// As [`MetricsFile::create`].
    pub fn update(&mut self, progress: &Progress) -> fsio::Result<()> {
        match self.written.elapsed() < EVERY {
            true => Ok(()),
            false => self.write(progress, false),
        }
    }

    /// Writes it for the last time; `complete` is whether the run did all that it was to do.
    ///
    /// # Errors
    /// As [`MetricsFile::create`].
    pub fn end(&mut self, progress: &Progress, complete: bool) -> fsio::Result<()> {
        self.write(progress, complete)
    }

    fn write(&mut self, progress: &Progress, complete: bool) -> fsio::Result<()> {
        self.written = Instant::now();
        fsio::write(&self.path, text(progress, &self.shard, complete))
    }
}

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, f64);

fn text(progress: &Progress, shard: &str, complete: bool) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<Sample>| {
        let name = format!("popalign_datagen_{name}");
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            let own = labels.iter().map(|(key, value)| (*key, value.as_str()));
            let all: Vec<String> = std::iter::once(("shard", shard))
                .chain(own)
                .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
                .collect();
            text.push_str(&format!("{name}{{{}}} {value}\n", all.join(",")));
        }
    };
    let one = |value: f64| vec![(Vec::new(), value)];
    let by = |label, value: &str, number| (vec![(label, value.to_owned())], number);
    let gauges = [
        (
            "pictures",
            "Pictures of the whole data set.",
            progress.pictures as f64,
        ),
        (
            "pictures_todo",
            "Pictures that this run is to draw.",
            progress.todo as f64,
        ),
        (
            "pictures_per_second",
            "Pictures drawn each second.",
            progress.rate(),
        ),
        (
            "elapsed_seconds",
            "Time since drawing began.",
            progress.elapsed().as_secs_f64(),
        ),
        (
            "complete",
            "1 once this run has drawn all that it was to draw.",
            f64::from(u8::from(complete)),
        ),
    ];
    for (name, help, value) in gauges {
        family(name, "gauge", help, one(value));
    }
    if let Some(left) = progress.left() {
        let help = "Time left if it goes on as so far.";
        family("left_seconds", "gauge", help, one(left.as_secs_f64()));
    }
    let help = "Pictures drawn that passed the filter.";
    family(
        "pictures_kept_total",
        "counter",
        help,
        one(progress.kept as f64),
    );
    let dropped = progress.dropped.iter();
    let samples = dropped.map(|(reason, count)| by("reason", reason, *count as f64));
    let help = "Pictures drawn that the filter dropped, by reason.";
    family("pictures_dropped_total", "counter", help, samples.collect());
    let help = "Steps of pictures made.";
    family("steps_total", "counter", help, one(progress.stepped as f64));
    let times = progress.times.named().into_iter();
    let samples = times.map(|(stage, time)| by("stage", stage, time.as_secs_f64()));
    let help = "Time that workers were at each stage.";
    family("stage_seconds_total", "counter", help, samples.collect());
    text
}

/// A label's value as the format writes it.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_written_is_the_text_format() {
        let progress = Progress {
            pictures: 32,
            todo: 16,
            kept: 3,
            dropped: BTreeMap::from([("odd \"reason\"\\".to_owned(), 2)]),
            ..Progress::default()
        };
        let text = text(&progress, "0/2", true);
        for line in [
            "# TYPE popalign_datagen_pictures gauge",
            "popalign_datagen_pictures{shard=\"0/2\"} 32",
            "popalign_datagen_complete{shard=\"0/2\"} 1",
            "# TYPE popalign_datagen_pictures_dropped_total counter",
            "popalign_datagen_pictures_dropped_total{shard=\"0/2\",reason=\"odd \\\"reason\\\"\\\\\"} 2",
            "popalign_datagen_stage_seconds_total{shard=\"0/2\",stage=\"unet\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        // Nothing is known of the time left before the first step.
        assert!(!text.contains("left_seconds"), "{text}");
    }

    #[test]
    fn it_is_written_at_once_and_then_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pa.prom");
        let progress = Progress::default();
        let mut file = MetricsFile::create(path.clone(), Shard::default(), &progress).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.update(&progress).unwrap();
        assert!(!path.exists());
        file.end(&progress, true).unwrap();
        assert!(path.exists());
        let nowhere = dir.path().join("none/pa.prom");
        assert!(MetricsFile::create(nowhere, Shard::default(), &progress).is_err());
    }
}
