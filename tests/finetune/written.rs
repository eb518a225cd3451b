//! What a run leaves on the disk, for us and for other programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use popalign::bundle::Bundle;
use popalign::lora;
use serde_json::{Value, json};

use crate::process::{stderr, succeeded};
use crate::world::{World, files, log, tensors};

const OPTIONS: [&str; 8] = [
    "--steps", "4", "--batch", "2", "--warmup", "1", "--lr", "1e-2",
];

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The `__metadata__` of a safetensors file.
fn metadata(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header["__metadata__"].clone()
}

#[test]
fn the_folder_holds_what_the_manifest_says() {
    let world = World::new();
    world.trained(&[&OPTIONS[..], &["--save-every", "2"]].concat());
    let found = files(&world.out());
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    let mut expected = vec![".lock".to_owned(), "README.md".to_owned()];
    for step in ["step-000002", "step-000004"] {
        for file in [
            "checkpoint.json",
            "pytorch_lora_weights.safetensors",
            "state.safetensors",
        ] {
            expected.push(format!("checkpoints/{step}/{file}"));
        }
    }
    for file in [
        "kohya_lora_weights.safetensors",
        "log.jsonl",
        "manifest.json",
        "pairs.jsonl",
        "pytorch_lora_weights.safetensors",
    ] {
        expected.push(file.to_owned());
    }
    assert_eq!(names, expected);
    let last = |file: &str| &found[&format!("checkpoints/step-000004/{file}")];
    let lora = "pytorch_lora_weights.safetensors";
    assert!(
        found[lora] == *last(lora),
        "the last checkpoint's is the result"
    );

    let manifest = json(&world.out().join("manifest.json"));
    assert_eq!(manifest["format"], "popalign-finetune-2");
    let config = &manifest["config"];
    for (key, value) in [
        ("loss", json!("popalign")),
        ("beta", json!(5000.0)),
        ("alpha", json!(0.5)),
        ("rank", json!(2)),
        ("lr", json!(0.01)),
        ("schedule", json!("constant_with_warmup")),
        ("warmup", json!(1)),
        ("steps", json!(4)),
        ("batch", json!(2)),
        ("grad_clip", json!(1.0)),
        ("adam_beta2", json!(0.999)),
        ("weight_decay", json!(0.01)),
        ("ema", json!(null)),
        ("seed", json!(0)),
        ("pair_seed", json!(0)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let inputs: BTreeSet<&str> = manifest["inputs"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        inputs,
        BTreeSet::from(["data", "pairs", "scheduler", "unet_grad", "weights"])
    );
    assert_eq!(manifest["versions"]["popalign"], env!("CARGO_PKG_VERSION"));
    let outcome = &manifest["outcome"];
    assert_eq!(outcome["steps"], 4);
    for (name, hash) in outcome["sha256"].as_object().unwrap() {
        let found = popalign::base::fsio::sha256(&world.out().join(name)).unwrap();
        assert_eq!(hash, &json!(found), "{name}");
    }
    // No paths, times or hosts: the same run elsewhere has the same manifest.
    let text = manifest.to_string();
    assert!(!text.contains(&world.dir().display().to_string()), "{text}");
}

#[test]
fn log_lines_and_events_are_those_of_each_step() {
    let world = World::new();
    world.trained(&OPTIONS);
    let path = world.out().join("log.jsonl");
    let first: Value =
        serde_json::from_str(fs::read_to_string(&path).unwrap().lines().next().unwrap()).unwrap();
    let keys: Vec<&str> = first
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "step",
            "loss",
            "reward_accuracy",
            "set_accuracy",
            "margin",
            "mu",
            "grad_norm",
            "lr",
            "samples_per_second",
            "seconds",
            "runtime_seconds"
        ]
    );
    let lines = log(&path);
    let steps: Vec<&Value> = lines.iter().map(|line| &line["step"]).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    // Rewards begin at exactly zero, so the loss is ln 2 but for its own last place.
    let loss = lines[0]["loss"].as_f64().unwrap();
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-15, "{loss}");
    let events = fs::read(world.out().join("events.out.tfevents.0.popalign")).unwrap();
    assert!(popalign::align::tfevents::kept_length(&events, |step| step <= 4) == events.len());
    assert!(popalign::align::tfevents::kept_length(&events, |step| step <= 3) < events.len());
}

/// The names and metadata that diffusers and kohya's tools look for; `scripts/oracle/lora_roundtrip.py`
/// loads such files there.
#[test]
fn both_lora_files_name_every_layer() {
    let world = World::new();
    world.trained(&OPTIONS);
    let bundle = Bundle::open(world.bundle()).unwrap();
    let modules = &bundle.lora().unwrap().modules;
    assert!(modules.len() > 40);
    let diffusers = world.out().join("pytorch_lora_weights.safetensors");
    let kohya = world.out().join("kohya_lora_weights.safetensors");
    let shapes = |path: &Path| -> BTreeMap<String, Vec<u64>> {
        let all = tensors(path).into_iter();
        all.map(|(name, t)| (name, t.shape)).collect()
    };
    let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
    for m in modules {
        let (a, b) = (vec![2, m.in_features], vec![m.out_features, 2]);
        first.insert(format!("unet.{}.lora_A.weight", m.path), a.clone());
        first.insert(format!("unet.{}.lora_B.weight", m.path), b.clone());
        let name = format!("lora_unet_{}", m.path.replace('.', "_"));
        second.insert(format!("{name}.lora_down.weight"), a);
        second.insert(format!("{name}.lora_up.weight"), b);
        second.insert(format!("{name}.alpha"), vec![]);
    }
    assert_eq!(shapes(&diffusers), first);
    assert_eq!(shapes(&kohya), second);
    assert!(lora::read(&diffusers).unwrap() == lora::read(&kohya).unwrap());

    let found = metadata(&diffusers);
    assert_eq!(found["format"], "pt");
    let peft: Value =
        serde_json::from_str(found["lora_adapter_metadata"].as_str().unwrap()).unwrap();
    assert_eq!(peft["unet.r"], 2);
    assert_eq!(peft["unet.lora_alpha"].as_f64(), Some(2.0));
    assert_eq!(peft["unet.peft_type"], "LORA");
    assert_eq!(
        peft["unet.target_modules"],
        json!(["to_k", "to_out.0", "to_q", "to_v"])
    );
    let found = metadata(&kohya);
    for (key, value) in [
        ("ss_network_module", "networks.lora"),
        ("ss_network_dim", "2"),
        ("ss_network_alpha", "2"),
        ("modelspec.sai_model_spec", "1.0.0"),
        ("modelspec.title", "PopAlign LoRA"),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
}

/// An alpha apart from the rank stands in both files, so that what reads them multiplies as training did,
/// and a run is gone on with by its own only.
#[test]
fn an_alpha_of_its_own_is_written_and_kept() {
    let world = World::new();
    let options = [&OPTIONS[..], &["--lora-alpha", "7"]].concat();
    world.trained(&options);
    let diffusers = world.out().join("pytorch_lora_weights.safetensors");
    let kohya = world.out().join("kohya_lora_weights.safetensors");
    let peft = metadata(&diffusers)["lora_adapter_metadata"].clone();
    let peft: Value = serde_json::from_str(peft.as_str().unwrap()).unwrap();
    assert_eq!(
        (&peft["unet.r"], &peft["unet.lora_alpha"]),
        (&json!(2), &json!(7.0))
    );
    assert_eq!(peft["unet.alpha_pattern"], json!({}));
    assert_eq!(metadata(&kohya)["ss_network_alpha"], "7");
    let alphas = tensors(&kohya)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".alpha"));
    let alphas: Vec<f32> = alphas.flat_map(|(_, t)| t.read_f32().unwrap()).collect();
    assert!(alphas.len() > 40 && alphas.iter().all(|&alpha| alpha == 7.0));
    let read = lora::read(&diffusers).unwrap();
    assert!(read == lora::read(&kohya).unwrap());
    assert!(read.modules.values().all(|f| f.alpha == 7.0 && f.rank == 2));

    let before = files(&world.out());
    let other = world.run(&[&OPTIONS[..], &["--resume"]].concat());
    assert_eq!(other.status.code(), Some(1));
    let expected = "was begun with another lora_alpha: it has 7.0, this run has null";
    assert!(stderr(&other).contains(expected), "{}", stderr(&other));
    world.trained(&[&options[..], &["--resume"]].concat());
    assert!(before == files(&world.out()));

    // The rank said is the default.
    let (plain, said) = (world.dir().join("plain"), world.dir().join("said"));
    for (out, more) in [(&plain, &[][..]), (&said, &["--lora-alpha", "2"])] {
        let options = [&OPTIONS[..], more].concat();
        succeeded(&world.command_into(out, &options).output().unwrap());
    }
    assert!(files(&plain) == files(&said));
    assert!(
        files(&plain)["pytorch_lora_weights.safetensors"]
            != before["pytorch_lora_weights.safetensors"]
    );
}

#[test]
fn a_file_of_pairs_is_followed() {
    let world = World::new();
    world.trained(&OPTIONS);
    let drawn = fs::read_to_string(world.out().join("pairs.jsonl")).unwrap();
    // Three of them, gone through again and again.
    let few: String = drawn
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    let path = world.dir().join("pairs.jsonl");
    fs::write(&path, &few).unwrap();
    let (out, trace) = (world.dir().join("own"), world.dir().join("trace"));
    let more = [
        "--pairs",
        path.to_str().unwrap(),
        "--trace",
        trace.to_str().unwrap(),
    ];
    let output = world
        .command_into(&out, &[&OPTIONS[..], &more].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(out.join("pairs.jsonl")).unwrap(), few);
    let id = |line: &str| {
        let pair: Value = serde_json::from_str(line).unwrap();
        i64::from(popalign::prompts::caption_id(
            pair["caption"].as_str().unwrap(),
        ))
    };
    let few: Vec<i64> = few.lines().map(id).collect();
    let mut visited = Vec::new();
    for n in 1..=4 {
        let step = &tensors(&trace.join(format!("step-{n:05}.safetensors")))["caption_id"];
        let bytes = step.read_bytes().unwrap();
        visited.extend(
            bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b)),
        );
    }
    let expected: Vec<i64> = (0..8).flat_map(|i| [few[i % 3]; 2]).collect();
    assert_eq!(visited, expected);
}

#[test]
fn an_sd15_model_is_trained_too() {
    let world = World::of("sd15_2");
    world.trained(&OPTIONS);
    let lines = log(&world.out().join("log.jsonl"));
    assert_ne!(lines[3]["margin"], 0.0, "it learns");
}
