//! How far a run is, and how fast it goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::event::Event;
use super::times::Times;

/// A run so far, made of its events.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Pictures of the whole data set.
    pub pictures: usize,
    /// Pictures that this run is to draw.
    pub todo: usize,
    /// Of these, kept.
    pub kept: usize,
    /// Of these, dropped by the filter, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// What it took.
    pub times: Times,
    /// Steps of a picture.
    pub steps: usize,
    /// Steps of pictures made: also of those that aren't whole yet.
    pub stepped: usize,
    pub(super) start: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            pictures: 0,
            todo: 0,
            kept: 0,
            dropped: BTreeMap::new(),
            times: Times::default(),
            steps: 1,
            stepped: 0,
            start: Instant::now(),
        }
    }
}

impl Progress {
    /// Takes an event in.
    pub fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Start {
                pictures,
                todo,
                steps,
                ..
            } => {
                *self = Self {
                    pictures: *pictures,
                    todo: *todo,
                    steps: *steps,
                    ..Self::default()
                };
            }
            Event::Stepped(pictures) => self.stepped += pictures,
            Event::Unit {
                kept,
                dropped,
                times,
                more,
                ..
            } => {
                self.todo += more;
                self.kept += kept;
                self.times += *times;
                for (reason, count) in dropped {
                    *self.dropped.entry(reason.clone()).or_default() += count;
                }
            }
            _ => {}
        }
    }

    /// Pictures drawn by this run, in whole units.
    pub fn drawn(&self) -> usize {
        self.kept + self.dropped.values().sum::<usize>()
    }

    /// Time since drawing began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Pictures a second, of whole units.
    pub fn rate(&self) -> f64 {
        self.drawn() as f64 / self.elapsed().as_secs_f64().max(1e-9)
    }

    /// The time that is left if it goes on as so far; nothing before the first step.
    pub fn left(&self) -> Option<Duration> {
        left(self.elapsed(), self.stepped, self.todo * self.steps)
    }
}

fn left(elapsed: Duration, done: usize, of: usize) -> Option<Duration> {
    let each = elapsed.as_secs_f64() / done as f64;
    Duration::try_from_secs_f64(each * of.saturating_sub(done) as f64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_steps() {
        let second = Duration::from_secs;
        assert_eq!(left(second(10), 5, 20), Some(second(30)));
        assert_eq!(left(second(10), 20, 20), Some(second(0)));
        assert_eq!(left(second(10), 0, 20), None);
        assert_eq!(left(second(0), 0, 0), None);
    }

    #[test]
    fn units_add_up() {
        let mut progress = Progress::default();
        let times = Times {
            unet: Duration::from_secs(3),
            vae: Duration::from_secs(1),
            ..Times::default()
        };
        for unit in 0..2 {
            progress.note(&Event::Unit {
                unit,
                kept: 3,
                dropped: BTreeMap::from([("no_face".to_owned(), 1)]),
                times,
                more: 1,
            });
        }
        assert_eq!(progress.todo, 2);
        assert_eq!((progress.drawn(), progress.kept), (8, 6));
        assert_eq!(progress.dropped["no_face"], 2);
        assert_eq!(progress.times.total(), Duration::from_secs(8));
        let shares = progress.times.shares().map(|(_, share)| share);
        assert_eq!(shares, [0.75, 0.25, 0.0, 0.0]);
        assert_eq!(Times::default().shares()[0].1, 0.0);
    }
}
