//! A further round: a run that goes on from the LoRA of another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use popalign::lora::{self, Factors};
use serde_json::Value;

use crate::process::{self, failed, succeeded};
use crate::refused::refused;
use crate::resume::until;
use crate::world::{World, files, log};

const LORA: &str = "pytorch_lora_weights.safetensors";
/// Adam's steps are as large as the learning rate: without one nothing moves.
const STILL: [&str; 4] = ["--steps", "1", "--lr", "0"];
/// Products of a few factors in another order.
const ROUNDING: f32 = 1e-6;

fn command(world: &World, out: &Path, rank: &str, options: &[&str]) -> Command {
    let mut command = process::pa_finetune();
    command.arg("--model").arg(world.bundle());
    command.arg("--data").arg(world.data());
    command.arg("--out").arg(out).args(["--lora", rank]);
    let all = ["--batch", "2", "--caption-dropout", "0"];
    command.args(all).args(options);
    command
}

/// A first round of rank 2.
fn first(world: &World) -> PathBuf {
    let out = world.dir().join("first");
    let options = ["--steps", "3", "--lr", "1e-2", "--warmup", "0"];
    succeeded(&command(world, &out, "2", &options).output().unwrap());
    out
}

fn go_on(world: &World, from: &Path, rank: &str, options: &[&str]) -> Output {
    let from = ["--lora-from", from.to_str().unwrap()];
    let options = [&from[..], options].concat();
    command(world, &world.out(), rank, &options)
        .output()
        .unwrap()
}

/// What a layer's LoRA adds to its weight.
fn product(f: &Factors) -> Vec<f32> {
    let (inputs, scale) = (f.inputs(), f.alpha / f.rank as f32);
    let element = |row: &[f32], column: usize| -> f32 {
        let terms = row.iter().enumerate();
        scale
            * terms
                .map(|(r, b)| b * f.a[r * inputs + column])
                .sum::<f32>()
    };
    let rows = f.b.chunks_exact(f.rank);
    rows.flat_map(|row| (0..inputs).map(move |column| element(row, column)))
        .collect()
}

#[test]
fn it_starts_as_the_lora_it_goes_on_from() {
    let world = World::new();
    let from = first(&world);
    // The folder, the file, kohya's names; other alphas and ranks.
    let kohya = from.join("kohya_lora_weights.safetensors");
    let runs: [(&Path, &str, &[&str]); 4] = [
        (&from, "2", &[]),
        (&from.join(LORA), "2", &["--lora-alpha", "16"]),
        (&kohya, "3", &[]),
        (&from, "3", &["--lora-alpha", "1", "--ema", "0.5"]),
    ];
    let expected = lora::read(&from).unwrap().modules;
    assert!(
        expected
            .values()
            .any(|f| product(f).iter().any(|x| *x != 0.0))
    );
    for (from, rank, options) in runs {
        let output = go_on(&world, from, rank, &[&STILL[..], options].concat());
        succeeded(&output);
        let found = lora::read(world.out()).unwrap().modules;
        assert_eq!(found.len(), expected.len());
        for (module, factors) in &found {
            assert_eq!(factors.rank.to_string(), rank);
            let (found, expected) = (product(factors), product(&expected[module]));
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= ROUNDING * largest, "{module}");
            }
        }
        // The reference is the model without a LoRA: rewards are there from the first step on.
        let line = &log(&world.out().join("log.jsonl"))[0];
        assert_ne!(line["margin"].as_f64().unwrap(), 0.0);
        fs::remove_dir_all(world.out()).unwrap();
    }
}

/// Of a lower rank than the run's it leaves the rest free to learn.
#[test]
fn what_it_does_not_fill_learns() {
    let world = World::new();
    let from = first(&world);
    let options = ["--steps", "2", "--lr", "1e-2", "--warmup", "0"];
    succeeded(&go_on(&world, &from, "3", &options));
    let found = lora::read(world.out()).unwrap().modules;
    for (module, f) in &found {
        let last = f.b.chunks_exact(3).map(|row| row[2]);
        assert!(last.into_iter().any(|b| b != 0.0), "{module}");
    }
}

#[test]
fn killed_it_goes_on_and_only_from_the_same() {
    let world = World::new();
    let from = first(&world);
    let from = from.to_str().unwrap();
    let unbroken = world.dir().join("unbroken");
    let options = [
        "--lora-from",
        from,
        "--steps",
        "9",
        "--save-every",
        "2",
        "--resume",
    ];
    succeeded(&command(&world, &unbroken, "2", &options).output().unwrap());
    let mut child = until(&mut command(&world, &world.out(), "2", &options), "step", 5);
    child.kill().unwrap();
    child.wait().unwrap();

    // Neither from nothing nor from another LoRA.
    let other = world.dir().join("other");
    succeeded(&command(&world, &other, "2", &STILL).output().unwrap());
    let rest = &options[2..];
    let other = [&["--lora-from", other.to_str().unwrap()], rest].concat();
    for options in [rest, &other] {
        let output = command(&world, &world.out(), "2", options)
            .output()
            .unwrap();
        failed(&output, 1, &["lora_from"]);
    }

    succeeded(
        &command(&world, &world.out(), "2", &options)
            .output()
            .unwrap(),
    );
    assert!(files(&world.out()) == files(&unbroken));
    let manifest = fs::read(unbroken.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let hash = manifest["config"]["lora_from"]["factors_sha256"].as_str();
    assert_eq!(hash.unwrap().len(), 64);
}

#[test]
fn what_it_cannot_go_on_from() {
    let world = World::new();
    let missing = ["--lora-from", "nowhere.safetensors"];
    refused(&world, &missing, &["--lora-from nowhere.safetensors"]);

    let high = world.dir().join("high");
    succeeded(&command(&world, &high, "3", &STILL).output().unwrap());
    let high = ["--lora-from", high.to_str().unwrap()];
    refused(
        &world,
        &high,
        &["the adapter's rank is 3", "--lora, which is 2"],
    );

    let demo = World::demo();
    let out = demo.dir().join("demo");
    succeeded(
        &command(&demo, &out, "2", &[&STILL[..], &["--unfiltered"]].concat())
            .output()
            .unwrap(),
    );
    let other = ["--lora-from", out.to_str().unwrap()];
    refused(&world, &other, &["--lora-from", "the model's is [24, 24]"]);
}
