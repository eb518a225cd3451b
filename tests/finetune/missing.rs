//! Files of a data set that are gone: pictures aren't needed, others are named; and what two sets share.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::process::{self, stderr, succeeded};
use crate::refused::refused;
use crate::world::World;

const OPTIONS: [&str; 4] = ["--steps", "1", "--batch", "2"];

#[test]
fn pictures_are_not_needed_and_other_files_are_named() {
    let world = World::new();
    let rows = world.data().join("metadata.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    let text = text.replace("\"file_name\":null", "\"file_name\":\"images/0.png\"");
    fs::write(&rows, text).unwrap();
    world.trained(&OPTIONS);
    fs::remove_dir_all(world.out()).unwrap();
    let latents = "latents-00000.safetensors";
    for file in [latents, "text.safetensors", "metadata.jsonl"] {
        let path = world.data().join(file);
        let bytes = fs::read(&path).unwrap();
        let damaged = [None, Some(&[][..]), Some(&bytes[..bytes.len() / 2])];
        for damaged in damaged {
            match damaged {
                None => fs::remove_file(&path).unwrap(),
                Some(bytes) => fs::write(&path, bytes).unwrap(),
            }
            let hint = "hint: run pa-datagen with the same options again";
            refused(&world, &OPTIONS, &[file, hint]);
        }
        fs::write(&path, bytes).unwrap();
    }
    world.trained(&OPTIONS);
}

#[test]
fn the_axes_of_a_data_set_are_not_replaced_by_others() {
    let world = World::demo();
    fs::remove_file(world.data().join("axes.toml")).unwrap();
    let expected = ["axes.toml is missing", "hint: run pa-datagen"];
    refused(&world, &OPTIONS, &expected);
    let axes = world.bundle().join("axes.toml");
    world.trained(&[&OPTIONS[..], &["--axes", axes.to_str().unwrap()]].concat());
}

#[test]
fn rows_are_read_with_any_line_ends() {
    let world = World::new();
    world.trained(&OPTIONS);
    let pairs = fs::read(world.out().join("pairs.jsonl")).unwrap();
    let path = world.data().join("metadata.jsonl");
    let rows = fs::read_to_string(&path).unwrap();
    for (start, end) in [("\u{feff}", "\r\n"), ("", "\r"), ("", "\n\n")] {
        fs::write(&path, format!("{start}{}", rows.replace('\n', end))).unwrap();
        fs::remove_dir_all(world.out()).unwrap();
        world.trained(&OPTIONS);
        assert_eq!(fs::read(world.out().join("pairs.jsonl")).unwrap(), pairs);
    }
}

/// Noise is addressed by seed, caption and number: what was trained on is told from what measures it.
#[test]
fn pictures_that_were_trained_on_are_told() {
    let world = World::demo();
    world.trained(&OPTIONS);
    let text = fs::read_to_string(world.out().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let captions = manifest["drawn"]["0"].as_object().unwrap();
    assert!(captions.values().any(|n| n == 2), "{captions:?}");

    let lora = world.out().join("pytorch_lora_weights.safetensors");
    let draw = |name: &str, seed: &str, neutral: &str, lora: Option<&Path>| {
        let mut command = process::pa_datagen();
        command.arg("--model").arg(world.bundle());
        command
            .arg("--prompts")
            .arg(world.dir().join("prompts.csv"));
        command.arg("--axes").arg(world.bundle().join("axes.toml"));
        command.arg("--out").arg(world.dir().join(name));
        command.args([
            "--specific",
            "0",
            "--steps",
            "2",
            "--seed",
            seed,
            "--neutral",
            neutral,
        ]);
        if let Some(lora) = lora {
            command.arg("--lora").arg(lora);
        }
        let output = command.output().unwrap();
        succeeded(&output);
        stderr(&output)
    };
    let told = "4 of 6 pictures have the seed, caption and number of pictures that the LoRA was";
    let said = draw("after", "0", "3", Some(&lora));
    assert!(
        said.contains(told) && said.contains("another --seed"),
        "{said}"
    );
    assert!(!draw("before", "0", "3", None).contains("the LoRA was"));
    assert!(!draw("fresh", "1", "3", Some(&lora)).contains("the LoRA was"));

    let score = |after: &str, more: &[&str]| -> (Output, Value) {
        let out = world.dir().join("scores.json");
        let mut command = process::pa_score();
        command
            .arg(world.dir().join(after))
            .arg("--against")
            .arg(world.dir().join("before"));
        command.args(["--ep", "cpu", "--metrics", "similarity", "--bootstrap", "0"]);
        command
            .arg("--model")
            .arg(world.bundle())
            .arg("--out")
            .arg(&out)
            .args(more);
        let output = command.output().unwrap();
        succeeded(&output);
        (
            output,
            serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap(),
        )
    };
    let shared =
        |scores: &Value, side: &str| scores["inputs"][side][0]["shared_with_training"].clone();
    // The folder that was drawn with the LoRA knows by itself, the other by the training run.
    let (output, scores) = score("after", &[]);
    assert_eq!(
        stderr(&output).matches(told).count(),
        1,
        "{}",
        stderr(&output)
    );
    assert_eq!(
        [shared(&scores, "scored"), shared(&scores, "against")],
        [json!(4), Value::Null]
    );
    let training = world.out().display().to_string();
    let (output, scores) = score("after", &["--training", &training, "--json"]);
    assert_eq!(
        stderr(&output).matches(told).count(),
        2,
        "{}",
        stderr(&output)
    );
    assert!(String::from_utf8(output.stdout).unwrap().contains(told));
    assert_eq!(
        [shared(&scores, "scored"), shared(&scores, "against")],
        [json!(4), json!(4)]
    );
}

/// Commands open several sessions, each for whatever provider there is.
#[test]
fn the_execution_provider_is_said_once_a_run() {
    let world = World::demo();
    let once = |output: &Output| {
        succeeded(output);
        let said = stderr(output);
        assert_eq!(said.matches("execution provider: ").count(), 1, "{said}");
    };
    let validated = ["--validate", "1", "--validate-every", "1"];
    once(&world.run(&[&OPTIONS[..], &validated].concat()));
    let mut command = process::pa_datagen();
    command.arg("--model").arg(world.bundle());
    command
        .arg("--prompts")
        .arg(world.dir().join("prompts.csv"));
    command.arg("--out").arg(world.dir().join("drawn"));
    command.args(["--neutral", "9", "--steps", "1", "--filter"]);
    command.arg(world.bundle().join("chain.toml"));
    once(&command.output().unwrap());
    let mut command = process::pa_score();
    command
        .arg(world.dir().join("drawn"))
        .arg("--against")
        .arg(world.dir().join("drawn"));
    command.args(["--metrics", "similarity", "--bootstrap", "0", "--model"]);
    once(&command.arg(world.bundle()).output().unwrap());
}
