//! Saying that something takes its time, where it does: a line after two seconds, then one every ten.
//! What is quick says nothing.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time after which something is said.
const FIRST: Duration = Duration::from_secs(2);
/// Time between two lines.
const NEXT: Duration = Duration::from_secs(10);

/// Work whose end is known by a call that doesn't come back before: `doing` is said of it, as in
/// "loading unet/model.onnx", from another thread.
pub(crate) fn call<T>(doing: &str, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        // Dropped at the end, also at that by a panic.
        let (_working, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            let start = Instant::now();
            let mut wait = FIRST;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                say(
                    doing,
                    &format!("{:.0} s so far", start.elapsed().as_secs_f64()),
                );
                wait = NEXT;
            }
        });
        work()
    })
}

/// Work that is done piece by piece.
#[derive(Debug)]
pub(crate) struct Slow {
    doing: String,
    /// How much there is to do, where that is known.
    of: Option<u64>,
    done: u64,
    /// Whether pieces are bytes.
    bytes: bool,
    start: Instant,
    /// When the next line is due.
    due: Duration,
}

impl Slow {
    /// Work on the bytes of a file, as in "hashing model.safetensors".
    pub(crate) fn bytes(verb: &str, path: &Path, of: Option<u64>) -> Self {
        Self {
            bytes: true,
            of,
            ..Self::pieces(format!("{verb} {}", path.display()), 0)
        }
    }

    /// Work on so many pieces, as in "checking the files of out/train".
    pub(crate) fn pieces(doing: String, of: u64) -> Self {
        Self {
            doing,
            of: Some(of),
            done: 0,
            bytes: false,
            start: Instant::now(),
            due: FIRST,
        }
    }

    /// Counts what was done, and says so where that is due.
    pub(crate) fn add(&mut self, done: u64) {
        self.done += done;
        let elapsed = self.start.elapsed();
        if elapsed >= self.due {
            self.due = elapsed + NEXT;
            say(&self.doing, &self.progress());
        }
    }

    fn progress(&self) -> String {
        let amount = |n: u64| match self.bytes {
            true => format!("{:.1} MB", n as f64 / 1e6),
            false => n.to_string(),
        };
        match self.of {
            Some(of) => format!("{} of {}", amount(self.done), amount(of)),
            None => format!("{} so far", amount(self.done)),
        }
    }
}

fn say(doing: &str, progress: &str) {
    tracing::info!("{doing}: {progress}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_what_is_counted() {
        let mut pieces = Slow::pieces("checking".into(), 70);
        pieces.add(7);
        assert_eq!(pieces.progress(), "7 of 70");
        let mut bytes = Slow::bytes("hashing", Path::new("a/b"), Some(3_000_000));
        bytes.add(1_500_000);
        assert_eq!(
            (bytes.doing.as_str(), bytes.progress().as_str()),
            ("hashing a/b", "1.5 MB of 3.0 MB")
        );
        let mut unknown = Slow::bytes("writing", Path::new("a"), None);
        unknown.add(100_000);
        assert_eq!(unknown.progress(), "0.1 MB so far");
    }

    #[test]
    fn a_call_gives_what_it_gives_at_once() {
        let start = Instant::now();
        assert_eq!(call("counting", || 3), 3);
        assert!(start.elapsed() < FIRST);
    }
}
