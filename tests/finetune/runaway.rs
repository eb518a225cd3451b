//! A run that is lost though its numbers are finite: it ends, and what was good is kept.

use std::fs;

use crate::process::{failed, stderr, succeeded};
use crate::world::{World, files, log};

/// The rate rises slowly, so that the first checkpoints are good, and far beyond what the network bears.
const OPTIONS: [&str; 10] = [
    "--steps",
    "4000",
    "--batch",
    "2",
    "--save-every",
    "3",
    "--lr",
    "8",
    "--warmup",
    "4000",
];

fn steps(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.out().join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs until it ends by itself, and looks at what it says and leaves.
fn ends(world: &World, options: &[&str], doubt: &str) {
    let output = world.run(options);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in [
        &format!("the run has run away: the {doubt} is"),
        "without the LoRA it is",
        "steps; the last good checkpoint is",
        "hint: a lower --lr",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let last = steps(world).pop().unwrap();
    assert!(text.contains(&last), "{last}: {text}");
    // It was written before the first of at least ten steps that were in doubt.
    let lines = log(&world.out().join("log.jsonl")).len();
    let number: usize = last["step-".len()..].parse().unwrap();
    assert!(number > 0 && number + 9 <= lines, "{number} of {lines}");
    let lora = "pytorch_lora_weights.safetensors";
    let folder = world.out().join("checkpoints").join(&last);
    assert!(folder.join(lora).is_file() && !world.out().join(lora).exists());
    // Gone on with it ends the same.
    let before = files(&world.out());
    let resumed = [options, &["--resume"]].concat();
    failed(&world.run(&resumed), 1, &["the run has run away", &last]);
    assert!(before == files(&world.out()));
}

/// A network of random weights is as wrong with a ruined LoRA as without; its loss tells.
#[test]
fn a_loss_that_runs_away_ends_with_the_last_good_checkpoint() {
    ends(&World::new(), &OPTIONS, "loss");
}

/// A trained network's errors grow a hundredfold.
#[test]
fn errors_that_run_away_end_with_the_last_good_checkpoint() {
    let world = World::demo();
    for loss in ["popalign", "dpo", "sft"] {
        let options = [
            "--steps",
            "4000",
            "--batch",
            "1",
            "--save-every",
            "3",
            "--lr",
            "40",
            "--warmup",
            "4000",
            "--loss",
            loss,
        ];
        ends(&world, &options, "winners' error");
        fs::remove_dir_all(world.out()).unwrap();
    }
}

#[test]
fn a_run_that_was_never_good_says_so() {
    let world = World::new();
    let options = [
        "--steps",
        "60",
        "--batch",
        "2",
        "--lr",
        "30",
        "--warmup",
        "0",
        "--save-every",
        "1",
    ];
    let expected = ["the run has run away", "there is no checkpoint from before"];
    failed(&world.run(&options), 1, &expected);
    assert!(steps(&world).is_empty());
}

/// A broken run counts the steps in doubt as an unbroken one does.
#[test]
fn interrupted_in_doubt_it_ends_at_the_same_step() {
    let world = World::new();
    failed(&world.run(&OPTIONS), 1, &["the run has run away"]);
    let unbroken = log(&world.out().join("log.jsonl"));
    let short = world.dir().join("short");
    // Its last step is one of the ten.
    let steps = (unbroken.len() - 4).to_string();
    let mut options = OPTIONS.to_vec();
    options[1] = &steps;
    succeeded(&world.command_into(&short, &options).output().unwrap());
    options[1] = "4000";
    options.push("--resume");
    let output = world.command_into(&short, &options).output().unwrap();
    failed(&output, 1, &["the run has run away"]);
    assert_eq!(log(&short.join("log.jsonl")), unbroken);
}
