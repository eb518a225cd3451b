//! Bad input: each is named, ends with exit code 1 (2 for usage), and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use popalign::base::fsio;
use popalign::tensors::{NewTensor, Weights, write_safetensors};

use crate::process::{self, failed, stderr};
use crate::world::{LATENT, World, files};

/// Expects exit code 1, one message that holds all of `expected`, and no output folder.
#[track_caller]
pub(crate) fn refused(world: &World, options: &[&str], expected: &[&str]) {
    fails(world, options, expected);
    assert!(!world.out().exists(), "something was left behind");
}

#[track_caller]
fn fails(world: &World, options: &[&str], expected: &[&str]) {
    failed(&world.run(options), 1, expected);
}

#[test]
fn values_that_cannot_be() {
    let world = World::new();
    for (option, value, expected) in [
        ("--steps", "0", "a number from 1 to 16777215"),
        ("--beta", "-1", "a number above 0"),
        ("--beta", "nan", "a number above 0"),
        ("--alpha", "1.1", "a share from 0 to 1"),
        ("--lr", "inf", "a number from 0"),
        ("--preserve", "-1", "a weight from 0"),
        ("--epochs", "0", "a number of passes from 1"),
        ("--set-size", "0", "a number of pictures from 1 to 4096"),
        ("--logit-std", "0", "a number above 0"),
        ("--mode-scale", "-1.5", "a number from -1 to 1.7519"),
        ("--ema", "1", "a number from 0 to below 1"),
        ("--lora", "0", "a rank from 1 to 1024"),
        ("--lora-alpha", "0", "a number from 0.000001 to 1000000"),
        ("--caption-dropout", "1.5", "a share from 0 to 1"),
        ("--snr-gamma", "0", "a number above 0"),
        ("--batch", "0", "a number of pairs from 1 to 4096"),
    ] {
        let output = alone(&world, option, value);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{option} {value}: {text}");
        let named = format!("invalid value '{value}' for '{option} <");
        let expected = format!(">': expected {expected}");
        assert!(
            text.contains(&named) && text.contains(&expected),
            "{text:?} should contain {named:?} and {expected:?}"
        );
        assert!(!world.out().exists());
    }
}

#[test]
fn options_that_cannot_be() {
    let world = World::new();
    for (option, value, expected) in [
        (
            "--steps",
            "16777215",
            "--steps 16777215: expected a run of up to 16777216 pairs",
        ),
        (
            "--min-timestep",
            "1000",
            "--min-timestep 1000: expected a range within the model's 1000 training time steps",
        ),
        (
            "--max-timestep",
            "1001",
            "--max-timestep 1001: expected a range within the model's 1000",
        ),
        (
            "--loss",
            "set",
            "--batch 8: expected whole sets with --loss set",
        ),
        (
            "--snr-gamma",
            "5",
            "--snr-gamma 5: expected --loss sft beside it: --loss popalign compares errors",
        ),
        (
            "--lora",
            "4",
            "--lora 4: the bundle's training graph was exported for ranks up to 3",
        ),
        (
            "--ep",
            "cuda",
            "the cuda execution provider cannot run here",
        ),
    ] {
        let output = alone(&world, option, value);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{option} {value}: {text}");
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
        assert!(!world.out().exists());
    }
}

/// A run with one option and, besides, only what is needed: the world's own options would come first,
/// and clap takes each once.
fn alone(world: &World, option: &str, value: &str) -> Output {
    let mut command = process::pa_finetune();
    let folders = [
        ("--model", world.bundle()),
        ("--data", world.data()),
        ("--out", world.out()),
    ];
    for (name, folder) in folders {
        command.arg(name).arg(folder);
    }
    command.args([option, value]);
    if option != "--lora" {
        command.args(["--lora", "2"]);
    }
    command.output().unwrap()
}

#[test]
fn usage_errors_have_their_own_exit_code() {
    let world = World::new();
    for options in [
        &["--loss", "best"][..],
        &["--batch", "many"],
        &["--batch", "18446744073709551614"],
        &["--batch", "1000000"],
        &["--micro-batch", "0"],
        &["--micro-batch", "4294967295"],
        &["--set-size", "5000"],
        &["--lora", "1000000000000"],
        &["--validate", "4294967295"],
        &["--threads", "65535"],
        &["--grad-memory", "-1"],
        &["--save-every", "0"],
        &["--optimizer", "sgd"],
        &["--timestep-sampling", "cosmap"],
        &["--pairs", "x", "--axes", "y"],
        &["--pairs", "x", "--unfiltered"],
        &["--epochs", "2", "--steps", "9"],
        &["--frobnicate"],
    ] {
        let output = world.run(options);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{options:?}: {}",
            stderr(&output)
        );
    }
    assert!(!world.out().exists());
}

#[test]
fn a_bundle_without_a_training_graph() {
    let world = World::new();
    world.export(&["--no-grad"]);
    refused(&world, &[], &["has no unet_grad; it has unet", "hint: "]);
    fs::remove_dir_all(world.bundle()).unwrap();
    refused(&world, &[], &["is not a bundle", "hint: ", "pa-export"]);
}

#[test]
fn a_folder_that_is_no_data_set() {
    let world = World::new();
    let manifest = world.data().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let unfinished = text[..text.find("\"outcome\"").unwrap()]
        .trim_end()
        .trim_end_matches(',');
    fs::write(&manifest, format!("{unfinished}}}")).unwrap();
    refused(&world, &[], &["the data set", "is unfinished"]);
    fs::remove_dir_all(world.data()).unwrap();
    fs::create_dir(world.data()).unwrap();
    refused(&world, &[], &["is not a data set: it has no manifest.json"]);
}

#[test]
fn urls_where_folders_are_read_and_written() {
    let world = World::new();
    let output = alone(&world, "--data", "s3://bucket/a");
    let fetch = "hint: fetch it first: pa-datagen merge";
    failed(&output, 1, &["s3://bucket/a is a URL", fetch]);
    assert!(!world.out().exists());
    let out = Path::new("s3://bucket/lora");
    let output = world.command_into(out, &[]).output().unwrap();
    failed(
        &output,
        1,
        &["s3://bucket/lora", "it is a URL, and this takes a folder"],
    );
    assert!(!Path::new("s3:").exists());
}

#[test]
fn a_data_set_of_another_model() {
    let world = World::new();
    let nothing: &dyn Fn(&mut _, &mut [f32]) = &|_, _| ();
    let [_, h, w] = LATENT;
    for (latent, width, pooled, expected) in [
        (LATENT, 24, Some(6), "text embeddings of shape [5, 24]"),
        (LATENT, 20, None, "pooled embeddings of length [0]"),
        (LATENT, 20, Some(99), "pooled embeddings of length [99]"),
        ([3, h, w], 20, Some(6), "latents of shape [3, 8, 6]"),
        (
            [4, h, 5],
            20,
            Some(6),
            "latents of shape [4, 8, 5], the training graph takes heights and widths that are multiples of 2",
        ),
    ] {
        world.data_set_of(latent, width, pooled, nothing);
        let expected = format!("the data set has {expected}");
        refused(&world, &[], &[&expected, "the training graph takes"]);
    }
}

#[test]
fn a_data_set_whose_files_contradict_its_manifest() {
    let world = World::new();
    let text = world.data().join("text.safetensors");
    let weights = Weights::open_files([&text]).unwrap();
    let all: Vec<_> = weights.iter().collect();
    let kept: Vec<_> = all
        .iter()
        .map(|t| (t.name.clone(), t.shape.clone(), t.read_f32().unwrap()))
        .collect();
    let tensors: Vec<_> = kept
        .iter()
        .map(|(name, shape, values)| {
            let mut shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            shape.reverse();
            NewTensor::f32(name.clone(), &shape, values)
        })
        .collect();
    write_safetensors(&text, &tensors, &Default::default()).unwrap();
    refused(
        &world,
        &[],
        &["text.safetensors: `prompt_embeds.", "expected F32 [5, 20]"],
    );

    world.data_set(&|_, _| ());
    let path = world.data().join("latents-00000.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    refused(
        &world,
        &[],
        &["latents-00000.safetensors is not a whole safetensors file"],
    );
}

#[test]
fn a_data_set_that_gives_no_pairs() {
    let world = World::new();
    world.data_set(&|row, _| {
        if !row.axes.is_empty() {
            row.dropped = Some("ambiguous".to_owned());
        }
    });
    refused(
        &world,
        &[],
        &[
            "gives no pairs",
            "no identity-specific picture for \"a photo of a doctor\"",
        ],
    );
}

#[test]
fn files_of_pairs_that_are_none() {
    let world = World::new();
    let path = world.dir().join("pairs.jsonl");
    let picture = |id: u32| format!(r#"{{"prompt_id":{id},"image_id":77}}"#);
    let pair = format!(
        r#"{{"caption":"a photo of a doctor","winner":{},"loser":{}}}"#,
        picture(1),
        picture(2)
    );
    for (text, expected) in [
        ("nonsense\n", "pairs.jsonl:1: not a pair"),
        ("{}\n", "pairs.jsonl:1: not a pair"),
        (
            pair.as_str(),
            "has kept no picture 77 of caption 00000001 (the winner)",
        ),
        ("\n", "holds no pairs"),
    ] {
        fsio::write(&path, text).unwrap();
        refused(&world, &["--pairs", path.to_str().unwrap()], &[expected]);
    }
    refused(
        &world,
        &["--pairs", "/nonexistent/pairs"],
        &["cannot read /nonexistent/pairs"],
    );
}

#[test]
fn nothing_to_preserve() {
    let world = World::new();
    // Pairs of neutral pictures of one subject, and nothing else is left.
    let neutral = "a photo of a doctor";
    world.data_set(&|row, _| {
        row.dropped = (row.prompt != neutral).then(|| "by the test".to_owned());
    });
    let id = popalign::prompts::caption_id(neutral);
    let picture = |image: u32| format!(r#"{{"prompt_id":{id},"image_id":{image}}}"#);
    let pair = format!(
        r#"{{"caption":"{neutral}","winner":{},"loser":{}}}"#,
        picture(0),
        picture(1)
    );
    let path = world.dir().join("pairs.jsonl");
    fsio::write(&path, pair).unwrap();
    refused(
        &world,
        &["--pairs", path.to_str().unwrap(), "--preserve", "0.5"],
        &[
            "--preserve: ",
            "has kept no picture whose caption names an identity",
        ],
    );
}

#[test]
fn axes_that_do_not_parse() {
    let world = World::new();
    let path = world.dir().join("axes.toml");
    fsio::write(&path, "[[axis]]\nname = 3").unwrap();
    refused(&world, &["--axes", path.to_str().unwrap()], &["axes.toml"]);
}

/// The numbers of a picture are looked at when it is trained on; what was done before is saved.
#[test]
fn latents_that_are_not_finite_are_named() {
    let world = World::new();
    world.data_set(&|row, latents| {
        if row.prompt == "a photo of a female nurse" && row.image_id == 1 {
            latents[7] = f32::NAN;
        }
    });
    let options = ["--steps", "60", "--batch", "1"];
    let id = format!(
        "{:08x}",
        popalign::prompts::caption_id("a photo of a female nurse")
    );
    let expected = [
        "unet_grad's `mse` of picture 1",
        &id,
        "(trained as \"a photo of a nurse\") is NaN",
        "nothing of this step",
    ];
    fails(&world, &options, &expected);
    assert!(
        !world
            .out()
            .join("pytorch_lora_weights.safetensors")
            .exists()
    );
    // With --resume it gets exactly as far again.
    let before = files(&world.out());
    fails(&world, &[&options[..], &["--resume"]].concat(), &expected);
    assert!(before == files(&world.out()));
}

#[test]
fn an_output_folder_that_is_taken() {
    let world = World::new();
    let options = ["--steps", "2", "--batch", "1"];
    world.trained(&options);
    let before = files(&world.out());
    fails(
        &world,
        &options,
        &["already holds a fine-tuning run", "hint: add --resume"],
    );
    let resumed = [&options[..], &["--resume"]].concat();
    for (more, expected) in [
        (
            &["--lr", "0.5"][..],
            "was begun with another lr: it has 0.00001, this run has 0.5",
        ),
        (
            &["--loss", "dpo"],
            "was begun with another loss: it has \"popalign\", this run has \"dpo\"",
        ),
        (&["--seed", "9"], "was begun with another pair_seed"),
    ] {
        fails(
            &world,
            &[&resumed[..], more].concat(),
            &[expected, "hint: repeat the options"],
        );
    }
    world.data_set(&|_, latents| latents[0] += 1.0);
    fails(&world, &resumed, &["was begun with another data"]);
    assert!(before == files(&world.out()));

    // A run that was begun when a batch was counted in pictures.
    let manifest = world.out().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let old = text.replace("popalign-finetune-2", "popalign-finetune-1");
    fs::write(&manifest, old).unwrap();
    let expected = [
        "an earlier pa-finetune, whose --batch counted pictures",
        "hint: ",
    ];
    fails(&world, &resumed, &expected);
    fails(&world, &options, &expected);

    fs::remove_file(&manifest).unwrap();
    fails(
        &world,
        &options,
        &["already holds checkpoints of a run whose manifest.json is gone"],
    );
    fs::write(
        world.out().join("manifest.json"),
        r#"{"format": "popalign-dataset-1"}"#,
    )
    .unwrap();
    fails(
        &world,
        &options,
        &["already holds a manifest.json of format popalign-dataset-1"],
    );
}

#[test]
fn an_output_folder_in_use() {
    let world = World::new();
    let options = ["--steps", "100000", "--resume"];
    let mut child = world
        .command(&[&options[..], &["--json"]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("start"), "{line}");
    fails(&world, &options, &["another process is fine-tuning into"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // A killed process holds nothing.
    fails(
        &world,
        &["--steps", "1", "--resume", "--lr", "3"],
        &["another lr"],
    );
}

/// A file size limit with its signal ignored makes writes fail as a full disk does.
#[test]
fn a_full_disk() {
    let world = World::new();
    let options = ["--steps", "6", "--batch", "1", "--save-every", "2"];
    let full = |blocks: u32, options: &[&str]| {
        let command = world.command(options);
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash"]);
        let output = shell
            .arg(command.get_program())
            .args(command.get_args())
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("cannot write") && text.contains("File too large"),
            "{text}"
        );
    };
    // Blocks of 1024 bytes: the state does not fit.
    full(100, &options);
    let names: Vec<String> = files(&world.out()).into_keys().collect();
    assert_eq!(
        names,
        [".lock", "log.jsonl", "manifest.json", "pairs.jsonl"]
    );
    // With room again the run goes on.
    let resumed = [&options[..], &["--resume"]].concat();
    world.trained(&resumed);
    let unbroken = world.dir().join("unbroken");
    let output = world.command_into(&unbroken, &options).output().unwrap();
    assert!(output.status.success());
    assert!(files(&world.out()) == files(&unbroken));
}
