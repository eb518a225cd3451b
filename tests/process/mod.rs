//! The commands, run as users run them.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::process::{Command, Output};

pub(crate) fn pa_export() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pa-export"))
}

pub(crate) fn pa_datagen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pa-datagen"))
}

pub(crate) fn pa_finetune() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pa-finetune"))
}

pub(crate) fn pa_score() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pa-score"))
}

/// What a command said on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Expects exit code 0; returns what was said.
#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

/// Expects an exit code, and one error whose message holds all of `expected`.
#[track_caller]
pub(crate) fn failed(output: &Output, code: i32, expected: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in expected {
        assert!(text.contains(part), "{text:?} should contain {part:?}");
    }
    let errors = text.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{text}");
}
