//! A run that was killed, stopped or cut differently ends with the bytes of an unbroken one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use popalign::tensors::{DType, Tensor};
use serde_json::Value;

use crate::process::{stderr, succeeded};
use crate::world::{World, files, log, tensors};

const OPTIONS: [&str; 12] = [
    "--steps",
    "23",
    "--save-every",
    "5",
    "--batch",
    "2",
    "--warmup",
    "4",
    "--lr",
    "1e-2",
    "--ema",
    "0.9",
];

/// Starts the command and returns once its event stream has shown `events` of a kind.
pub(crate) fn until(command: &mut Command, kind: &str, events: usize) -> Child {
    let mut child = command
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let matching = lines.map_while(Result::ok).filter(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"] == kind
    });
    matching.take(events).for_each(drop);
    child
}

/// Starts a run and kills it some microseconds after its event stream has shown `events` of a kind.
fn killed(world: &World, options: &[&str], kind: &str, events: usize, delay: u64) {
    let mut child = until(&mut world.command(options), kind, events);
    sleep(Duration::from_micros(delay));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_anywhere_it_ends_as_if_it_had_not_been() {
    let world = World::new();
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &OPTIONS).output().unwrap());
    let trace = world.dir().join("trace");
    let options = [
        &OPTIONS[..],
        &["--resume", "--trace", trace.to_str().unwrap()],
    ]
    .concat();
    // Kinds of moments: before anything, in a step, while a checkpoint is written or an old one
    // removed, after the last step. The delays spread the kills over each.
    for (kind, events, delay) in [
        ("start", 1, 0),
        ("step", 3, 100),
        ("step", 5, 0),
        ("step", 5, 300),
        ("step", 5, 900),
        ("saved", 1, 0),
        ("step", 2, 50),
        ("saved", 1, 100),
        ("step", 4, 1000),
        ("step", 5, 500),
        ("saved", 1, 200),
        ("step", 3, 0),
    ] {
        killed(&world, &options, kind, events, delay);
    }
    let output = world.run(&options);
    succeeded(&output);
    assert!(
        stderr(&output).contains("going on after step"),
        "{}",
        stderr(&output)
    );
    assert_same(&files(&world.out()), &files(&unbroken));
    assert_eq!(log(&world.out().join("log.jsonl")).len(), 23);
    assert_eq!(
        fs::read_dir(&trace).unwrap().count(),
        23,
        "a trace file for every step"
    );

    // Once more: there is nothing to do, and nothing changes.
    succeeded(&world.run(&options));
    assert_same(&files(&world.out()), &files(&unbroken));
}

#[test]
fn eight_bit_moments_go_on_bit_for_bit_and_only_as_such() {
    let world = World::new();
    let options = [&OPTIONS[..], &["--optimizer", "adamw8bit", "--resume"]].concat();
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &options).output().unwrap());
    for (kind, events, delay) in [("step", 7, 0), ("saved", 1, 100), ("step", 3, 500)] {
        killed(&world, &options, kind, events, delay);
    }
    let state = unbroken.join("checkpoints/step-000023/state.safetensors");
    let kinds = tensors(&state);
    let codes = |t: &&Tensor| t.name.starts_with("exp_avg.codes.") && t.dtype == DType::U8;
    let factors = kinds.keys().filter(|n| n.starts_with("lora.")).count();
    assert_eq!(kinds.values().filter(codes).count(), factors);

    let other = world.run(&[&OPTIONS[..], &["--resume"]].concat());
    let text = stderr(&other);
    assert_eq!(other.status.code(), Some(1), "{text}");
    assert!(
        text.contains("optimizer") && text.contains("adamw8bit"),
        "{text}"
    );

    succeeded(&world.run(&options));
    assert_same(&files(&world.out()), &files(&unbroken));
}

/// Prodigy's estimate is a part of its state; without a learning rate of one's own it is 1.
#[test]
fn prodigy_goes_on_bit_for_bit_and_only_as_such() {
    let world = World::new();
    // Plain fine-tuning: its gradients agree enough for the estimate to rise in so few steps.
    let options = [
        "--optimizer",
        "prodigy",
        "--loss",
        "sft",
        "--steps",
        "27",
        "--save-every",
        "5",
        "--batch",
        "6",
        "--warmup",
        "2",
        "--resume",
    ];
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &options).output().unwrap());
    for (kind, events, delay) in [("step", 7, 0), ("saved", 1, 100), ("step", 3, 500)] {
        killed(&world, &options, kind, events, delay);
    }
    let lines = log(&unbroken.join("log.jsonl"));
    let estimates: Vec<f64> = lines
        .iter()
        .map(|l| l["estimate"].as_f64().unwrap())
        .collect();
    assert_eq!(
        estimates[0], 1e-6,
        "nothing is known at a learning rate of 0"
    );
    assert!(
        estimates.is_sorted() && estimates[26] > 1e-6,
        "{estimates:?}"
    );
    assert_eq!(lines[26]["lr"], 1.0);

    let more = ["--resume", "--optimizer", "adamw", "--lr", "1"];
    let other = world.run(&[&options[2..12], &more].concat());
    assert!(
        stderr(&other).contains("was begun with another optimizer"),
        "{}",
        stderr(&other)
    );

    succeeded(&world.run(&options));
    assert_same(&files(&world.out()), &files(&unbroken));
}

#[track_caller]
pub(crate) fn assert_same(
    a: &std::collections::BTreeMap<String, Vec<u8>>,
    b: &std::collections::BTreeMap<String, Vec<u8>>,
) {
    let names = |files: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<String> {
        files.keys().cloned().collect()
    };
    assert_eq!(names(a), names(b));
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{name} differs");
    }
}

#[test]
fn an_interrupted_run_saves_and_leaves_no_trace_of_it() {
    let world = World::new();
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &OPTIONS).output().unwrap());
    let mut child = until(&mut world.command(&OPTIONS), "step", 7);
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept: Vec<_> = fs::read_dir(world.out().join("checkpoints"))
        .unwrap()
        .collect();
    assert!(
        kept.len() >= 2,
        "the planned ones and that of the interruption"
    );
    let done = log(&world.out().join("log.jsonl")).len();
    assert!((7..23).contains(&done), "{done}");

    let resumed = [&OPTIONS[..], &["--resume"]].concat();
    succeeded(&world.run(&resumed));
    assert_same(&files(&world.out()), &files(&unbroken));
}

#[test]
fn a_run_may_be_made_longer_and_is_then_the_longer_run() {
    let world = World::new();
    let base = [
        "--save-every",
        "5",
        "--batch",
        "2",
        "--lr",
        "1e-2",
        "--warmup",
        "3",
    ];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let long = world.dir().join("long");
    succeeded(
        &world
            .command_into(&long, &with(&["--steps", "14"]))
            .output()
            .unwrap(),
    );
    world.trained(&with(&["--steps", "7"]));
    world.trained(&with(&["--steps", "14", "--resume"]));
    assert_same(&files(&world.out()), &files(&long));
    // But not shorter than it is, and not at all where the schedule asks for the end.
    let output = world.run(&with(&["--steps", "9", "--resume"]));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("--steps 9: the run in"), "{text}");
    assert!(text.contains("has done 14 already"), "{text}");
    assert_same(&files(&world.out()), &files(&long));
}

#[test]
fn epochs_are_passes_in_other_orders_and_may_be_added() {
    let world = World::new();
    let base = ["--batch", "2", "--lr", "1e-2", "--warmup", "1"];
    world.trained(&[&base[..], &["--steps", "2"]].concat());
    let drawn = fs::read_to_string(world.out().join("pairs.jsonl")).unwrap();
    let path = world.dir().join("seven.jsonl");
    let seven: Vec<&str> = drawn.lines().take(7).collect();
    fs::write(&path, seven.join("\n")).unwrap();
    let run = |name: &str, more: &[&str]| {
        let (out, trace) = (
            world.dir().join(name),
            world.dir().join(format!("{name}-trace")),
        );
        let own = [
            "--pairs",
            path.to_str().unwrap(),
            "--trace",
            trace.to_str().unwrap(),
        ];
        let options = [&base[..], &own, more].concat();
        succeeded(&world.command_into(&out, &options).output().unwrap());
        (out, trace)
    };
    // Two pairs a step: seven pairs take four steps, twice seven take seven.
    let (long, trace) = run("long", &["--epochs", "2"]);
    assert_eq!(log(&long.join("log.jsonl")).len(), 7);
    let latents = |n: usize| {
        let file = tensors(&trace.join(format!("step-{n:05}.safetensors")));
        let latents = file["latents"].read_f32().unwrap();
        let pair = latents.len() / 2;
        let bits = latents
            .chunks(pair)
            .map(|p| p.iter().map(|x| x.to_bits()).collect());
        bits.collect::<Vec<Vec<u32>>>()
    };
    let visited: Vec<Vec<u32>> = (1..=7).flat_map(latents).collect();
    let mut passes: Vec<Vec<Vec<u32>>> = visited.chunks(7).map(<[_]>::to_vec).collect();
    assert_ne!(passes[0], passes[1], "another order");
    passes.iter_mut().for_each(|pass| pass.sort());
    assert_eq!(passes[0], passes[1], "the same pairs");

    let (short, _) = run("short", &["--epochs", "1"]);
    assert_eq!(log(&short.join("log.jsonl")).len(), 4);
    run("short", &["--epochs", "2", "--resume"]);
    assert_same(&files(&short), &files(&long));
    let out = world.dir().join("short");
    let steps = [
        &base[..],
        &[
            "--pairs",
            path.to_str().unwrap(),
            "--resume",
            "--steps",
            "9",
        ],
    ]
    .concat();
    let output = world.command_into(&out, &steps).output().unwrap();
    assert!(stderr(&output).contains("was begun with another epochs"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_word() {
    let world = World::new();
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &OPTIONS).output().unwrap());
    world.trained(&OPTIONS);
    let state = world
        .out()
        .join("checkpoints/step-000023/state.safetensors");
    let mut bytes = fs::read(&state).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&state, bytes).unwrap();
    let output = world.run(&[&OPTIONS[..], &["--resume"]].concat());
    succeeded(&output);
    let text = stderr(&output);
    assert!(
        text.contains("passed over") && text.contains("state.safetensors is not what was written"),
        "{text}"
    );
    assert!(text.contains("going on after step 20"), "{text}");
    assert_same(&files(&world.out()), &files(&unbroken));
}

/// The LoRA of a run with other options of how it is carried out.
pub(crate) fn lora(world: &World, name: &str, more: &[&str]) -> Vec<f32> {
    let out = world.dir().join(name);
    let base = [
        "--steps", "6", "--batch", "4", "--lr", "1e-2", "--warmup", "2",
    ];
    let options = [&base[..], more].concat();
    succeeded(&world.command_into(&out, &options).output().unwrap());
    let file = tensors(&out.join("pytorch_lora_weights.safetensors"));
    file.values().flat_map(|t| t.read_f32().unwrap()).collect()
}

/// Share of the trained weights' norm by which another cut of the batch may change them: ONNX
/// Runtime's matrix products add up in another order for other sizes, and Adam divides by the size
/// of a gradient, so that elements with next to none move by rounding.
pub(crate) const CUT: f64 = 1e-4;

#[test]
fn threads_and_micro_batches_change_nothing_but_rounding() {
    let world = World::new();
    let whole = lora(&world, "whole", &[]);
    assert_eq!(whole, lora(&world, "again", &[]), "the same command twice");
    assert_eq!(
        whole,
        lora(&world, "threads", &["--threads", "2"]),
        "two threads"
    );
    for cut in ["1", "2", "3", "4", "64"] {
        let other = lora(&world, cut, &["--micro-batch", cut]);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let pairs = whole.iter().zip(&other);
        let difference = norm(&mut pairs.map(|(a, b)| f64::from(a - b)));
        let error = difference / norm(&mut whole.iter().map(|&x| f64::from(x)));
        assert!(error <= CUT, "micro-batch {cut}: off by {error:e}");
    }
}
