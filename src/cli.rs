//! What the four commands share: common options, logging, errors, exit codes, interruption.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::base::{Patience, Stop, Values, fsio};
use crate::runtime::{Ep, SessionOptions};

/// Exit code of a run that did its work.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a run that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a run that was interrupted and saved its state.
pub const EXIT_INTERRUPTED: u8 = 130;

/// How long work under way goes on that would only have to be done again.
const BRIEF: Duration = Duration::from_secs(10);

/// What `--threads` can be: each has a stack of its own, and no machine has more cores.
pub const THREADS: Values<usize> = Values::within("a number", 1, 1024);

/// Options every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Execution provider; `auto` says what it picked, any other fails if it cannot run
    #[arg(long, value_enum, default_value_t = Ep::Auto)]
    pub ep: Ep,
    /// Short for `--ep tensorrt`
    #[arg(long, conflicts_with = "ep")]
    pub trt: bool,
    /// Device index for CUDA and TensorRT
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub device: i32,
    /// Threads for CPU work [default: all cores]
    #[arg(long, value_name = "N", value_parser = THREADS)]
    pub threads: Option<usize>,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub seed: u64,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

impl Common {
    /// The execution provider asked for, with `--trt` resolved.
    pub fn ep(&self) -> Ep {
        if self.trt { Ep::TensorRt } else { self.ep }
    }

    /// Threads to use: `--threads`, or every core.
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(all)
    }
}

impl From<&Common> for SessionOptions {
    fn from(common: &Common) -> Self {
        Self::new(common.ep(), common.device, common.threads())
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
///
/// The body gets the token that a signal asks.
pub fn main(body: impl FnOnce(&Stop) -> anyhow::Result<Outcome>) -> ExitCode {
    log();
    let stop = Stop::new();
    let asked = stop.clone();
    // A second handler can't be installed only if one is there already; then that one serves.
    let _ = ctrlc::set_handler(move || interrupt(&asked));
    match body(&stop) {
        Ok(Outcome::Done) => ExitCode::from(EXIT_DONE),
        Ok(Outcome::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Err(error) => {
            report(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Logs to standard error, as much as `POPALIGN_LOG` says (`debug`, `warn,ort=debug` …).
fn log() {
    let default = || EnvFilter::new("info,ort=error,object_store=warn");
    let (filter, problem) = match std::env::var("POPALIGN_LOG") {
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(e) => (
                default(),
                Some(format!("POPALIGN_LOG={text} is ignored: {e}")),
            ),
        },
        Err(_) => (default(), None),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour())
        .with_target(false)
        .without_time()
        .init();
    if let Some(problem) = problem {
        tracing::warn!("{problem}");
    }
}

/// Whether messages may be coloured: on a terminal, unless the user says no (<https://no-color.org>).
fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// The first signal asks work under way that would be lost to come to its end, and otherwise ends the
/// command; the second ends it in any case. Every file on the disk is whole at any moment, so nothing
/// breaks.
fn interrupt(stop: &Stop) {
    match (stop.ask(), stop.patience()) {
        (true, _) | (_, Patience::No) => leave(),
        (_, Patience::Entire) => {
            say("interrupted: finishing the current step (again to stop at once)");
        }
        (_, Patience::Brief) => {
            let seconds = BRIEF.as_secs();
            say(&format!(
                "interrupted: finishing what is under way, for {seconds} s at most (again to stop at once)"
            ));
            std::thread::spawn(|| {
                std::thread::sleep(BRIEF);
                leave();
            });
        }
    }
}

/// Ends the process, whatever it is doing. What has no name yet is removed.
///
/// ONNX Runtime loads a graph in one call, which only some versions can be asked to leave, and there
/// only between passes; a connection that brings nothing blocks too. So nobody is waited for.
fn leave() -> ! {
    fsio::abandon();
    say("interrupted: nothing is left half-written; the same command goes on with what is there");
    event(
        asked_for_json(),
        &serde_json::json!({"event": "interrupted"}),
    );
    quit()
}

/// Ends the process without the libraries' own ends: they would take down what other threads use.
#[cfg(unix)]
#[expect(unsafe_code, reason = "ends the process")]
fn quit() -> ! {
    // SAFETY: nothing runs after it.
    unsafe { libc::_exit(EXIT_INTERRUPTED.into()) }
}

/// Ends the process.
#[cfg(not(unix))]
#[expect(clippy::exit, reason = "the user insists")]
fn quit() -> ! {
    std::process::exit(EXIT_INTERRUPTED.into())
}

/// Writes a line to standard error. If nobody reads it any more, that is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error with its causes and its hint, and as an event for whoever asked for events.
fn report(error: &anyhow::Error) {
    let causes = causes(error);
    let hint = error.chain().find_map(hint);
    say(&format!("error: {}", causes.join("\n  because: ")));
    if let Some(hint) = &hint {
        say(&format!("\nhint: {hint}"));
    }
    event(
        asked_for_json(),
        &serde_json::json!({"event": "error", "error": causes, "hint": hint}),
    );
}

/// Whether the user asked for events. Errors and signals come from everywhere, also from before the
/// options were looked at.
fn asked_for_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// The messages of an error and its causes, without those that only repeat the one before.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if causes.last().is_none_or(|last| !last.contains(&text)) {
            causes.push(text);
        }
    }
    causes
}

/// The advice that an error carries.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    let runtime = || cause.downcast_ref::<crate::runtime::Error>()?.hint();
    let bundle = || cause.downcast_ref::<crate::bundle::Error>()?.hint();
    let align = || cause.downcast_ref::<crate::align::Error>()?.hint();
    let generate = || cause.downcast_ref::<crate::datagen::Error>()?.hint();
    let score = || cause.downcast_ref::<crate::score::Error>()?.hint();
    let store = || cause.downcast_ref::<crate::store::Error>()?.hint();
    let data = || cause.downcast_ref::<crate::data::dataset::Error>()?.hint();
    let made = runtime().or_else(bundle).or_else(align);
    let made = made.or_else(generate).or_else(score);
    made.or_else(data).or_else(store).map(str::to_owned)
}

/// A progress bar of an indicatif template, on a terminal; hidden otherwise, where log lines serve.
pub fn progress(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}

/// Says which files were written.
pub fn written(json: bool, files: &[PathBuf]) {
    for file in files {
        tracing::info!("{} written", file.display());
        event(json, &serde_json::json!({"event": "written", "file": file}));
    }
}

/// Prints one event as a JSON line on standard output when `--json` is on.
pub fn event(json: bool, value: &serde_json::Value) {
    if json {
        // A reader that has gone away (`| head`) must not end the work.
        let _ = writeln!(std::io::stdout(), "{value}");
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_typed_hint_is_found_under_context_and_repeated_messages_are_dropped() {
        let io = Err::<(), _>(std::io::Error::other("disk is gone"));
        let error = io
            .context("cannot write: disk is gone")
            .context("export failed")
            .unwrap_err();
        assert_eq!(
            causes(&error),
            ["export failed", "cannot write: disk is gone"]
        );
        let error: anyhow::Error = crate::bundle::Error::NotABundle {
            dir: "x".into(),
            problem: "it has no bundle.json".into(),
        }
        .into();
        let found = error.context("opening").chain().find_map(hint);
        assert!(found.is_some_and(|h| h.contains("pa-export")));
    }
}
