//! Bad input: each is named, ends with exit code 1 (2 for usage), and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use popalign::tensors::{DType, NewTensor, Weights, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::process::{failed, stderr};

/// Expects exit code 1 and a message that holds all of `expected`, and nothing written.
#[track_caller]
fn refused(world: &World, options: &[&str], expected: &[&str]) {
    failed(&world.export(options), 1, expected);
    assert_eq!(world.leftovers(), [""; 0], "something was left behind");
}

/// Rewrites the UNet's weights, with `change` applied to each tensor; `None` drops it.
fn rewrite(world: &World, change: impl Fn(NewTensor<'static>) -> Option<NewTensor<'static>>) {
    let path = world.unet_weights();
    let weights = Weights::open_files([&path]).unwrap();
    let owned = |t: &popalign::tensors::Tensor| NewTensor {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
        data: t.read_bytes().unwrap().into(),
    };
    let tensors: Vec<_> = weights.iter().map(owned).filter_map(change).collect();
    write_safetensors(path, &tensors, &BTreeMap::new()).unwrap();
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_missing_tensor() {
    let world = World::new();
    rewrite(&world, |t| (t.name != "conv_in.weight").then_some(t));
    refused(
        &world,
        &[],
        &["missing tensor `conv_in.weight`", "diffusion_pytorch_model"],
    );
}

#[test]
fn a_tensor_of_another_shape() {
    let world = World::new();
    rewrite(&world, |mut t| {
        if t.name == "conv_in.weight" {
            t.shape.swap(0, 1);
        }
        Some(t)
    });
    refused(
        &world,
        &[],
        &["tensor `conv_in.weight`", "has shape [4, ", "expected ["],
    );
}

#[test]
fn a_tensor_of_integers() {
    let world = World::new();
    rewrite(&world, |mut t| {
        if t.name == "conv_in.weight" {
            t.dtype = match t.dtype {
                DType::F16 => DType::I16,
                _ => DType::I32,
            };
        }
        Some(t)
    });
    refused(&world, &[], &["tensor `conv_in.weight` is of type I"]);
}

#[test]
fn truncated_weights() {
    let world = World::new();
    let bytes = fs::read(world.unet_weights()).unwrap();
    fs::write(world.unet_weights(), &bytes[..bytes.len() - 100]).unwrap();
    refused(
        &world,
        &[],
        &["unet/diffusion_pytorch_model.safetensors", "truncated"],
    );
}

#[test]
fn a_folder_without_weights() {
    let world = World::new();
    fs::remove_file(world.unet_weights()).unwrap();
    refused(&world, &[], &["no weights in", "src/unet"]);
}

#[test]
fn an_unknown_block_type() {
    let world = World::new();
    edit(
        &world.src().join("unet/config.json"),
        "\"DownBlock2D\"",
        "\"SwirlBlock2D\"",
    );
    refused(
        &world,
        &[],
        &["cannot export unet", "down_block_types", "SwirlBlock2D"],
    );
}

#[test]
fn a_configuration_that_is_not_json() {
    let world = World::new();
    fs::write(world.src().join("vae/config.json"), "{").unwrap();
    refused(&world, &[], &["vae/config.json is not JSON"]);
}

#[test]
fn an_index_that_is_not_json() {
    let world = World::new();
    fs::write(world.src().join("model_index.json"), "no").unwrap();
    refused(&world, &[], &["model_index.json is not JSON"]);
}

#[test]
fn a_part_that_is_not_there() {
    let world = World::new();
    fs::remove_dir_all(world.src().join("text_encoder_2")).unwrap();
    refused(
        &world,
        &["--parts", "unet,text_encoder_2"],
        &["has no text_encoder_2/config.json"],
    );
}

#[test]
fn a_lora_target_that_no_layer_has() {
    let world = World::new();
    refused(
        &world,
        &["--lora-targets", "to_q,to_z"],
        &["LoRA target `to_z`"],
    );
}

#[test]
fn fused_operators_in_bf16() {
    let options = ["--target", "cuda", "--dtype", "bf16"];
    refused(
        &World::new(),
        &options,
        &["--target cuda with --dtype bf16", "hint: take --dtype fp16"],
    );
}

#[test]
fn sources_that_are_no_diffusers_folder() {
    let world = World::new();
    let dir = world.dir();
    fs::write(dir.join("model.safetensors"), "x").unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    for (source, expected) in [
        ("model.safetensors", "model.safetensors: truncated: 1 bytes"),
        ("empty", "is not a model in diffusers' layout"),
        (
            "nobody/nothing",
            "HF_HUB_OFFLINE is set, and the cache has no files",
        ),
        ("nobody/x.safetensors", "there is no nobody/x.safetensors"),
        ("gone", "there is no gone, and it is no hub id either"),
    ] {
        let output = pa_export()
            .current_dir(dir)
            .args([source, "-o", "out/bundle"])
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
        assert!(!dir.join("out").exists());
    }
}

#[test]
fn outputs_that_would_destroy_something() {
    let world = World::new();
    let out = world.out();
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("thesis.tex"), "years of work").unwrap();
    let check = |out: &Path, expected: &str| {
        let output = pa_export()
            .arg(world.src())
            .arg("-o")
            .arg(out)
            .output()
            .unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(expected),
            "{text:?} should contain {expected:?}"
        );
    };
    check(&out, "exists and is not a bundle");
    check(&out.join("thesis.tex"), "exists and is not a bundle");
    check(&world.src(), "must be separate folders");
    check(&world.src().join("bundle"), "must be separate folders");
    check(world.dir(), "must be separate folders");
    assert_eq!(
        fs::read_to_string(out.join("thesis.tex")).unwrap(),
        "years of work"
    );
    assert_eq!(world.leftovers(), ["bundle"]);
    assert!(!world.src().join("bundle").exists());
}

#[test]
fn a_failed_export_leaves_the_bundle_that_was_there() {
    let world = World::new();
    let out = world.exported(&[]);
    let before = fs::read(out.join("bundle.json")).unwrap();
    fs::write(world.src().join("clip/config.json"), "{").unwrap();
    let output = world.export(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(out.join("bundle.json")).unwrap(), before);
    assert_eq!(world.leftovers(), ["bundle"]);
}

/// A file size limit with its signal ignored makes writes fail as a full disk does.
#[test]
fn a_full_disk() {
    let world = World::new();
    let export = world.command(&[]);
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "bash"]);
    shell.arg(export.get_program()).args(export.get_args());
    let output = shell.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("cannot write") && text.contains("model.onnx"),
        "{text}"
    );
    assert!(text.contains("File too large"), "{text}");
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn usage_errors_have_their_own_exit_code() {
    let world = World::new();
    for options in [
        &["--lora-rank", "0"][..],
        &["--lora-rank", "many"],
        &["--lora-rank", "1025"],
        &["--size", "100000x100000"],
        &["--size", "16385x64"],
        &["--batch", "65536"],
        &["--batch", "18446744073709551616"],
        &["--attention-memory", "18446744073709551615"],
        &["--threads", "65535"],
        &["--parts", "unet,wheel"],
        &["--parts", "unet", "--no-grad"],
        &["--dtype", "fp8"],
        &["--threads", "0"],
        &["--frobnicate"],
        &["another"],
    ] {
        let output = world.export(options);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{options:?}: {}",
            stderr(&output)
        );
    }
    assert_eq!(
        pa_export().arg(world.src()).output().unwrap().status.code(),
        Some(2)
    );
    assert_eq!(world.leftovers(), [""; 0]);
    let help = pa_export().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && text.contains("--lora-targets"),
        "{text}"
    );
}
