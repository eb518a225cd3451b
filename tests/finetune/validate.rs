//! `--validate`: what it draws, counts and writes, when it ends a run, and that a broken run validates
//! as an unbroken one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use popalign::bundle::{Bundle, Part};
use popalign::data::dataset::Dataset;
use popalign::diffusion::decode::Decoder;
use popalign::diffusion::guidance::Guidance;
use popalign::diffusion::pipeline::{Conditioning, Denoiser, Job, Settings};
use popalign::diffusion::samplers::SamplerKind;
use popalign::diffusion::schedule::SchedulerConfig;
use popalign::diffusion::text::TextShape;
use popalign::judge::chain::{Chain, Verdict};
use popalign::lora;
use popalign::prompts::caption_id;
use popalign::runtime::{Runtime, SessionOptions};
use serde_json::Value;

use crate::process::{stderr, succeeded};
use crate::refused::refused;
use crate::resume::{assert_same, until};
use crate::world::{World, files};

/// A short run on the demo that validates after 0, 3, 6 and 7 steps, three pictures of each caption.
const OPTIONS: [&str; 18] = [
    "--steps",
    "7",
    "--batch",
    "1",
    "--lr",
    "3e-2",
    "--warmup",
    "1",
    "--ema",
    "0.5",
    "--save-every",
    "2",
    "--validate",
    "3",
    "--validate-every",
    "3",
    "--beta",
    "100",
];
const PICTURES: u32 = 3;
/// Sums of a few probabilities in another order.
const ROUNDING: f64 = 1e-12;

fn records(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("validation.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

fn manifest(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap()
}

/// Draws the pictures of a validation with the LoRA of a file, one at a time, and counts what the
/// bundle's chain sees: by caption the gender of each picture that counts.
fn genders(world: &World, adapter: &Path) -> Vec<Vec<String>> {
    let runtime = Runtime::load().unwrap();
    let bundle = Bundle::open(world.bundle()).unwrap();
    let dataset = Dataset::open(world.data()).unwrap();
    let options = SessionOptions::default();
    let path = world.bundle().join("scheduler/scheduler_config.json");
    let scheduler = SchedulerConfig::read(&path).unwrap();
    let info = bundle.lora().unwrap();
    let fitted = lora::read(adapter).unwrap();
    let fitted = fitted.fit(&info.modules, info.rank as usize).unwrap();
    let settings = Settings {
        seed: 0,
        sampler: SamplerKind::default().set_up(&scheduler, 3).unwrap(),
        train_timesteps: scheduler.train_timesteps,
        guidance: Guidance::plain(2.5),
        latent: dataset.latent_shape(),
        text: TextShape::of(&bundle).unwrap(),
        time_ids: dataset.time_ids(),
        lora: Some((Arc::new(fitted), 1.0)),
    };
    let (width, height) = dataset.size();
    let latent = dataset.latent_shape();
    let mut decoder = Decoder::open(&bundle, &runtime, &options, latent, [height, width]).unwrap();
    let unet = bundle.session(&runtime, Part::Unet, &options).unwrap();
    let zeros = settings.text.zeros();
    let mut denoiser = Denoiser::new(unet, settings);
    let manifest = bundle.file("chain.toml").unwrap();
    let mut chain = Chain::open(&runtime, &manifest, &options).unwrap();
    let mut seen = Vec::new();
    for caption in ["a photo of a doctor", "a photo of a nurse"] {
        let id = caption_id(caption);
        let text = dataset.embeddings(id).unwrap();
        let mut own = Vec::new();
        for image in 0..PICTURES {
            let job = Job {
                edits: &[],
                caption: Conditioning {
                    prompt_embeds: text.prompt_embeds,
                    pooled: text.pooled,
                },
                prompt_id: id,
                image_id: (1 << 31) + image,
            };
            let drawn = denoiser.draw(&[job], (&zeros).into(), &mut || ()).unwrap();
            let picture = decoder.decode(&drawn).unwrap();
            if let Verdict::Kept(attributes) = &chain.classify(&[picture]).unwrap()[0] {
                own.push(attributes.dominant("gender").unwrap().0.to_owned());
            }
        }
        seen.push(own);
    }
    seen
}

#[test]
fn the_last_record_is_what_the_lora_draws() {
    let world = World::demo();
    let output = world.run(&[&OPTIONS[..], &["--json"]].concat());
    succeeded(&output);
    let found = records(&world.out());
    let steps: Vec<&Value> = found.iter().map(|r| &r["step"]).collect();
    assert_eq!(steps, [0, 3, 6, 7]);
    let last = &found[3];
    let seen = genders(
        &world,
        &world.out().join("pytorch_lora_weights.safetensors"),
    );
    assert_eq!(last["pictures"], 6);
    assert_eq!(last["kept"], seen.iter().map(Vec::len).sum::<usize>());
    let share = |list: &[String], value: &str| {
        list.iter().filter(|g| *g == value).count() as f64 / list.len() as f64
    };
    let counting: Vec<&Vec<String>> = seen.iter().filter(|list| !list.is_empty()).collect();
    let d: f64 = counting
        .iter()
        .map(|list| 2f64.sqrt() * (share(list, "male") - 0.5).abs())
        .sum::<f64>()
        / counting.len() as f64;
    let axes = last["axes"].as_array().unwrap();
    let gender = axes.iter().find(|a| a["axis"] == "gender").unwrap();
    assert!(
        (gender["discrepancy"].as_f64().unwrap() - d).abs() < ROUNDING,
        "{gender} {d}"
    );
    let all = seen.concat();
    let women = gender["shares"]["female"].as_f64().unwrap();
    assert!((women - share(&all, "female")).abs() < ROUNDING, "{women}");
    let each = axes.iter().map(|a| a["discrepancy"].as_f64().unwrap());
    let mean = each.sum::<f64>() / axes.len() as f64;
    assert!((last["discrepancy"].as_f64().unwrap() - mean).abs() < ROUNDING);
    assert_ne!(
        found[0]["axes"], last["axes"],
        "the LoRA draws other pictures"
    );

    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "validation")
        .collect();
    let logs: Vec<&Value> = events.iter().map(|event| &event["log"]).collect();
    assert_eq!(logs, found.iter().collect::<Vec<_>>());
    let events = fs::read(world.out().join("events.out.tfevents.0.popalign")).unwrap();
    let text = String::from_utf8_lossy(&events);
    assert_eq!(text.matches("validation/discrepancy/skin").count(), 4);
    let manifest = manifest(&world.out());
    assert_eq!(manifest["outcome"]["ended"], "steps");
    // As the data set was drawn.
    assert_eq!(manifest["config"]["validate"]["steps"], 3);
    assert_eq!(manifest["config"]["validate"]["cfg"], 2.5);
}

#[test]
fn a_broken_run_validates_as_an_unbroken_one() {
    let world = World::demo();
    let unbroken = world.dir().join("unbroken");
    succeeded(&world.command_into(&unbroken, &OPTIONS).output().unwrap());
    let options = [&OPTIONS[..], &["--resume", "--threads", "1"]].concat();
    for (kind, events) in [
        ("start", 1),
        ("validation", 1),
        ("step", 4),
        ("validation", 1),
    ] {
        let mut child = until(&mut world.command(&options), kind, events);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeeded(&world.run(&options));
    assert_same(&files(&world.out()), &files(&unbroken));
    // Another validation would be another run.
    let output = world.run(&[&options[..], &["--validate-steps", "4"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("was begun with another validate"));
}

#[test]
fn a_target_ends_the_run() {
    let world = World::demo();
    // No two populations are further apart.
    let options = [&OPTIONS[..], &["--target-discrepancy", "1.5"]].concat();
    let output = world.run(&options);
    succeeded(&output);
    assert!(stderr(&output).contains("the target is met after step 3"));
    let steps: Vec<Value> = records(&world.out())
        .iter()
        .map(|r| r["step"].clone())
        .collect();
    assert_eq!(steps, [0, 3]);
    let outcome = &manifest(&world.out())["outcome"];
    assert_eq!(outcome["ended"], "target_discrepancy");
    assert_eq!(outcome["steps"], 3);
    let found = files(&world.out());
    let lora = "pytorch_lora_weights.safetensors";
    assert!(found[lora] == found[&format!("checkpoints/step-000003/{lora}")]);
    // Once more: it has ended, and stays so.
    succeeded(&world.run(&[&options[..], &["--resume"]].concat()));
    assert_same(&files(&world.out()), &found);
}

#[test]
fn prompts_of_one_s_own_are_encoded() {
    let world = World::demo();
    let prompts = world.dir().join("own.txt");
    fs::write(&prompts, "chef\ndoctor\npilot\n").unwrap();
    let own = [
        "--steps",
        "1",
        "--batch",
        "1",
        "--validate",
        "2",
        "--validate-steps",
        "3",
    ];
    let validated = |more: &[&str], name: &str| -> BTreeMap<String, Value> {
        let out = world.dir().join(name);
        let options = [&own[..], more].concat();
        succeeded(&world.command_into(&out, &options).output().unwrap());
        serde_json::from_value(records(&out)[0].clone()).unwrap()
    };
    let three = validated(&["--validate-prompts", prompts.to_str().unwrap()], "three");
    assert_eq!(three["pictures"], 6);
    // The captions of the data set, written out: what the text encoders say is what it holds.
    fs::write(&prompts, "doctor\nnurse\n").unwrap();
    let written = validated(
        &["--validate-prompts", prompts.to_str().unwrap()],
        "written",
    );
    assert_eq!(written, validated(&[], "held"));
}

#[test]
fn words_that_validation_s_captions_lose_are_named() {
    let world = World::demo();
    let prompts = world.dir().join("long.txt");
    let filler = "a ".repeat(75);
    fs::write(&prompts, format!("chef\n{filler}garden\n")).unwrap();
    let file = prompts.to_str().unwrap();
    let options = [
        "--steps",
        "1",
        "--batch",
        "1",
        "--validate",
        "1",
        "--validate-steps",
        "1",
        "--json",
        "--validate-prompts",
        file,
    ];
    let out = world.dir().join("out");
    let output = world.command_into(&out, &options).output().unwrap();
    succeeded(&output);
    let events = String::from_utf8(output.stdout).unwrap();
    let told = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<Value> = told.filter(|event| event["event"] == "truncated").collect();
    assert_eq!(told.len(), 1, "{events}");
    let lost = &told[0]["lost"];
    assert_eq!((&lost["captions"], &lost["of"]), (&1.into(), &2.into()));
    assert!(
        lost["first"][0]["lost"]
            .as_str()
            .unwrap()
            .ends_with("garden")
    );
}

#[test]
fn what_can_not_be_validated_is_refused() {
    let world = World::new();
    for (options, expected) in [
        (&["--validate", "0"][..], "a number of pictures from 1"),
        (
            &["--validate", "1", "--validate-every", "0"],
            "a number of steps from 1",
        ),
        (
            &["--validate", "1", "--target-discrepancy", "-1"],
            "a number from 0",
        ),
    ] {
        let output = world.run(options);
        let (text, [.., option, value]) = (stderr(&output), options) else {
            unreachable!("every case has an option");
        };
        assert_eq!(output.status.code(), Some(2), "{text}");
        let named = format!("invalid value '{value}' for '{option} <");
        assert!(text.contains(&named) && text.contains(expected), "{text}");
        assert!(!world.out().exists());
    }
    for (options, expected) in [
        (&["--validate", "1"][..], "has no vae_decoder"),
        (
            &[
                "--validate",
                "1",
                "--validate-prompts",
                "/nonexistent/prompts",
            ],
            "cannot read /nonexistent/prompts",
        ),
    ] {
        refused(&world, options, &[expected]);
    }
    for options in [
        &["--validate-every", "3"][..],
        &["--target-discrepancy", "0.1"],
    ] {
        assert_eq!(world.run(options).status.code(), Some(2), "{options:?}");
    }
}
