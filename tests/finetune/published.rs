//! What a run's folder tells the users of its LoRA. `scripts/oracle/lora_roundtrip.py` reads such a card as
//! the hub does, and such a file as kohya's tools do.

use std::fs;
use std::path::Path;

use popalign::base::fsio;
use serde_json::{Value, json};

use crate::world::{World, files};

const OPTIONS: [&str; 12] = [
    "--steps",
    "2",
    "--batch",
    "4",
    "--warmup",
    "1",
    "--lr",
    "1e-2",
    "--seed",
    "7",
    "--lr-schedule",
    "cosine",
];

/// The header's length, and its `__metadata__`.
fn metadata(bytes: &[u8]) -> (usize, Value) {
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (8 + length, header["__metadata__"].clone())
}

#[test]
fn kohya_s_file_says_how_it_was_made() {
    let world = World::new();
    let mut command = world.command(&OPTIONS);
    // 2001-09-09, 01:46:40 UTC.
    let output = command
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .output()
        .unwrap();
    crate::process::succeeded(&output);
    let bytes = fs::read(world.out().join("kohya_lora_weights.safetensors")).unwrap();
    let (data, found) = metadata(&bytes);
    let hash = fsio::sha256_bytes(&bytes[data..]);
    for (key, value) in [
        ("ss_output_name", "popalign"),
        ("ss_steps", "2"),
        ("ss_max_train_steps", "2"),
        ("ss_learning_rate", "0.01"),
        ("ss_lr_scheduler", "cosine"),
        ("ss_lr_warmup_steps", "1"),
        ("ss_optimizer", "adamw"),
        ("ss_seed", "7"),
        ("ss_network_module", "networks.lora"),
        ("ss_training_started_at", "999993600.0"),
        ("ss_v2", "False"),
        ("ss_v_parameterization", "False"),
        ("sshs_model_hash", &hash),
        ("modelspec.hash_sha256", &format!("0x{hash}")),
        ("modelspec.date", "2001-09-09"),
        ("modelspec.prediction_type", "epsilon"),
    ] {
        assert_eq!(found[key], value, "{key}");
    }
    let name = world
        .source()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(found["ss_sd_model_name"], name);
    let size = found["modelspec.resolution"].as_str().unwrap();
    let (width, height) = size.split_once('x').unwrap();
    assert_eq!(found["ss_resolution"], format!("({width}, {height})"));
    for key in [
        "ss_training_comment",
        "modelspec.usage_hint",
        "modelspec.description",
    ] {
        assert!(found[key].as_str().unwrap().len() > 20, "{key}");
    }
    // All entries are texts: the format has no others.
    assert!(found.as_object().unwrap().values().all(Value::is_string));
    // diffusers' file has no day, and so the same bytes on every one.
    let bytes = fs::read(world.out().join("pytorch_lora_weights.safetensors")).unwrap();
    let keys: Vec<String> = metadata(&bytes)
        .1
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys, ["format", "lora_adapter_metadata"]);
}

#[test]
fn the_card_is_written_kept_and_left_alone() {
    let world = World::new();
    world.trained(&OPTIONS);
    let path = world.out().join("README.md");
    let card = fs::read_to_string(&path).unwrap();
    for part in [
        "---\nlibrary_name: diffusers\ntags: [text-to-image, diffusers, lora, template:sd-lora, popalign]\n---\n",
        "pipe.load_lora_weights(",
        "| loss | popalign, β 5000 |",
        "| seed | 7 |",
        "The values that captions name, all alike.",
        "Not measured yet.",
        "## Limits",
    ] {
        assert!(card.contains(part), "{part} is missing in\n{card}");
    }

    // More steps: the recipe changes, figures stay; a card without our line is its owner's.
    let again = |steps: &str| {
        let options = [&OPTIONS[2..10], &["--steps", steps, "--resume"]].concat();
        world.trained(&options);
        fs::read_to_string(&path).unwrap()
    };
    fs::remove_dir_all(world.out()).unwrap();
    world.trained(&OPTIONS[..10]);
    let card = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        popalign::align::publish::put_figures(&card, "| measured |").unwrap(),
    )
    .unwrap();
    let card = again("3");
    assert!(
        card.contains("| measured |") && card.contains("| steps | 3 of"),
        "{card}"
    );
    let own: String = card
        .lines()
        .filter(|line| !line.contains("Written by pa-finetune"))
        .collect();
    fs::write(&path, &own).unwrap();
    assert_eq!(again("4"), own);
}

/// The id of a model from the hub's cache is the card's base model.
#[test]
fn the_hub_s_id_is_the_base() {
    let world = World::new();
    let manifest = world.bundle().join("bundle.json");
    let mut bundle: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    bundle["source"] = json!("/home/me/hub/models--some-org--a-model/snapshots/abc");
    bundle["detached"] = json!(true);
    fs::write(&manifest, bundle.to_string()).unwrap();
    let axes = world.dir().join("axes.toml");
    fs::write(
        &axes,
        "[template]\nneutral = \"a photo of a {prompt}\"\nspecific = \"a {gender} {prompt}\"\n\
         [[axis]]\nname = \"gender\"\nvalues = [\"female\", \"male\"]\ntarget = [0.25, 0.75]\n",
    )
    .unwrap();
    world.trained(&[&OPTIONS[..], &["--axes", axes.to_str().unwrap()]].concat());
    let card = &files(&world.out())["README.md"];
    let card = std::str::from_utf8(card).unwrap();
    assert!(
        card.starts_with("---\nbase_model: some-org/a-model\n"),
        "{card}"
    );
    assert!(
        card.contains("from_pretrained(\"some-org/a-model\")"),
        "{card}"
    );
    let bytes = fs::read(
        world
            .out()
            .join(Path::new("kohya_lora_weights.safetensors")),
    )
    .unwrap();
    assert_eq!(metadata(&bytes).1["ss_sd_model_name"], "some-org/a-model");
}
