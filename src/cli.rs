//! What the four commands share: common options, logging, errors, exit codes, interruption.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

/// Exit code of a run that did its work.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a run that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a run that was interrupted and saved its state.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Options every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Execution provider; `auto` says what it picked, any other fails if it cannot run
    #[arg(long, value_enum, default_value_t = crate::runtime::Ep::Auto)]
    pub ep: crate::runtime::Ep,
    /// Short for `--ep tensorrt`
    #[arg(long, conflicts_with = "ep")]
    pub trt: bool,
    /// Device index for CUDA and TensorRT
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub device: i32,
    /// Threads for CPU work [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub seed: u64,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The execution provider asked for, with `--trt` resolved.
    pub fn ep(&self) -> crate::runtime::Ep {
        if self.trt {
            crate::runtime::Ep::TensorRt
        } else {
            self.ep
        }
    }

    /// Threads to use: `--threads`, or every core.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        )
    }
}

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for was done.
    Done,
    /// The user interrupted; what was done is saved and the same command goes on from there.
    Interrupted,
}

/// Runs a command's body: sets up logging and interruption, prints an error once with its causes
/// and its hint, and turns the outcome into the exit code.
pub fn main(body: impl FnOnce() -> anyhow::Result<Outcome>) -> ExitCode {
    let filter = EnvFilter::try_from_env("POPALIGN_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,ort=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    // A second handler can't be installed only if one is there already; then that one serves.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst));
    match body() {
        Ok(Outcome::Done) => ExitCode::from(EXIT_DONE),
        Ok(Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            report(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user asked the command to stop. Long loops ask at every safe point.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where errors reach the user"
)]
fn report(error: &anyhow::Error) {
    let hint = error
        .chain()
        .find_map(|e| e.downcast_ref::<Hinted>())
        .map(|h| h.hint.clone());
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Wrappers that only repeat their source add nothing for the reader.
        if causes.last().is_none_or(|last| !last.contains(&text)) {
            causes.push(text);
        }
    }
    eprintln!("error: {}", causes.join("\n  because: "));
    if let Some(hint) = hint {
        eprintln!("\nhint: {hint}");
    }
}

/// An error with advice on what to do about it.
#[derive(Debug)]
pub struct Hinted {
    hint: String,
    source: anyhow::Error,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// Adds a `hint:` line to an error.
pub trait HintExt<T> {
    /// Attaches advice that is printed under the error.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> HintExt<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|e| {
            Hinted {
                hint: hint.into(),
                source: e.into(),
            }
            .into()
        })
    }
}

/// Prints one event as a JSON line when `--json` is on.
#[expect(clippy::print_stdout, reason = "--json events are the command's data")]
pub fn event(json: bool, value: &serde_json::Value) {
    if json {
        println!("{value}");
    }
}
