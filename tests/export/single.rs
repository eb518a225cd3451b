//! Single-file checkpoints: the same networks under the original code's names.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use popalign::bundle::{Bundle, Part};
use popalign::family::Family;
use popalign::family::checkpoint::Checkpoint;
use popalign::tensors::{DType, NewTensor, Weights, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::outputs::{DRAWING, same};
use crate::process::stderr;

/// A checkpoint of `scripts/oracle/checkpoints.py`; diffusers' converter reads it as the folder
/// that it was made of.
fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/fixtures/checkpoints").join(name)
}

fn run(src: &Path, out: &Path, options: &[&str]) -> Output {
    let mut command = pa_export();
    command.arg(src).arg("-o").arg(out).args(options);
    command.output().unwrap()
}

#[track_caller]
fn exported(src: &Path, out: &Path, base: &Path, options: &[&str]) -> String {
    let base = ["--base", base.to_str().unwrap()];
    let output = run(src, out, &[&base, options].concat());
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn an_sdxl_file_computes_what_its_folder_does() {
    let world = World::new();
    let folder = world.exported(&[]);
    let file = world.dir().join("sdxl.safetensors");
    fs::copy(fixture("sdxl.safetensors"), &file).unwrap();
    let out = world.dir().join("single");
    let text = exported(&file, &out, &world.src(), &[]);
    // What training left behind is no reason to warn; nothing else is left over.
    assert!(!text.contains("not part of"), "{text}");
    same(&folder, &out, &DRAWING);

    // One file stands in every folder under its own name, once on the disk.
    let inode = fs::metadata(&file).unwrap().ino();
    for part in DRAWING {
        let link = out.join(part.folder()).join("sdxl.safetensors");
        assert_eq!(fs::metadata(link).unwrap().ino(), inode, "{part}");
    }
    let bundle = Bundle::open(&out).unwrap();
    assert_eq!(
        bundle
            .config()
            .weights
            .iter()
            .filter(|w| w.links.len() == 6)
            .count(),
        1
    );
    assert_eq!(
        bundle.json("unet/config.json").unwrap(),
        world.json("unet/config.json")
    );
    assert!(out.join("tokenizer/vocab.json").is_file());
}

#[test]
fn a_file_of_stable_diffusion_1_computes_what_its_folder_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = root.join("tests/fixtures/nets/sd15_25");
    let base = dir.path().join("base");
    for part in ["text_encoder", "unet", "vae"] {
        crate::checkpoint::copy(&model.join(part), &base.join(part));
    }
    fs::create_dir(base.join("tokenizer")).unwrap();
    let (folder, single) = (dir.path().join("folder"), dir.path().join("single"));
    assert!(run(&base, &folder, &[]).status.success());
    exported(&fixture("sd15.safetensors"), &single, &base, &[]);
    let parts = [
        Part::TextEncoder,
        Part::Unet,
        Part::UnetGrad,
        Part::VaeDecoder,
        Part::VaeEncoder,
    ];
    same(&folder, &single, &parts);
    // The base has no index: the family's own serves.
    let bundle = Bundle::open(&single).unwrap();
    assert_eq!(
        bundle.config().pipeline.as_deref(),
        Some("StableDiffusionPipeline")
    );
    let index = bundle.json("model_index.json").unwrap();
    assert_eq!(index["_class_name"], "StableDiffusionPipeline");
    assert!(bundle.file("scheduler/scheduler_config.json").is_some());
}

#[test]
fn tokenizers_must_come_from_somewhere() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = run(&fixture("sdxl.safetensors"), &out, &[]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "is a single file, which has no tokenizer",
        "hint: give --base DIR",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let output = run(
        &fixture("sdxl.safetensors"),
        &out,
        &["--base", empty.to_str().unwrap()],
    );
    assert!(
        stderr(&output).contains("and neither has --base"),
        "{}",
        stderr(&output)
    );
    let output = run(&fixture("sdxl.safetensors"), &out, &["--base", "gone"]);
    assert!(
        stderr(&output).contains("--base gone is neither a folder nor a hub id"),
        "{}",
        stderr(&output)
    );
    assert!(!out.exists());
}

/// Without a base the configurations are SDXL base's, which this tiny one is not.
#[test]
fn the_familys_configuration_is_built_in() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = run(&fixture("sdxl.safetensors"), &out, &["--parts", "unet"]);
    let text = stderr(&output);
    assert!(text.contains("expected [1280, 320]"), "{text}");
    let output = run(
        &fixture("sd15.safetensors"),
        &out,
        &["--parts", "vae_decoder"],
    );
    let text = stderr(&output);
    assert!(
        text.contains("missing tensor `post_quant_conv.weight` [4, 4, 1, 1]"),
        "{text}"
    );
}

/// Writes a safetensors file of small tensors with these names.
fn with_names(path: &Path, names: &[&str]) {
    let tensors: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
    with_tensors(path, &tensors);
}

/// Writes a safetensors file of tensors with these names and lengths.
fn with_tensors(path: &Path, tensors: &[(&str, usize)]) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, n)| NewTensor::f32(*name, &[*n], &[0.0; 32][..*n]))
        .collect();
    write_safetensors(path, &tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn other_families_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    for (names, expected) in [
        (
            &["cond_stage_model.model.ln_final.bias"][..],
            "Stable Diffusion 2",
        ),
        (
            &["conditioner.embedders.0.model.ln_final.bias"],
            "the SDXL refiner",
        ),
        (
            &["model.diffusion_model.joint_blocks.0.x"],
            "Stable Diffusion 3",
        ),
        (&["double_blocks.0.img_attn.proj.bias"], "Flux"),
        (
            &["lora_unet_x.alpha", "b"],
            "none of its 2 tensors is named `model.diffusion_model",
        ),
    ] {
        with_names(&file, names);
        let text = Checkpoint::open(&file).unwrap_err().to_string();
        assert!(
            text.contains(expected) && text.contains("x.safetensors"),
            "{text}"
        );
    }
}

#[test]
fn a_unet_alone_and_what_it_says_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let unet = "model.diffusion_model.";
    let (time, label) = (
        format!("{unet}time_embed.0.bias"),
        format!("{unet}label_emb.0.0.bias"),
    );
    with_tensors(
        &file,
        &[(&time, 1), ("v_pred", 1), ("ztsnr", 1), ("surprise", 17)],
    );
    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!(checkpoint.family(), Family::Sd15);
    assert!(checkpoint.v_prediction() && checkpoint.zero_terminal_snr());
    assert_eq!(checkpoint.unknown(), ["surprise"]);
    let names: Vec<String> = checkpoint
        .weights("unet")
        .unwrap()
        .iter()
        .map(|t| t.name.clone())
        .collect();
    assert_eq!(names, ["time_embedding.linear_1.bias"]);
    assert!(
        checkpoint
            .weights("vae")
            .unwrap_err()
            .to_string()
            .contains("holds no vae")
    );
    with_names(&file, &[&time, &label]);
    assert_eq!(Checkpoint::open(&file).unwrap().family(), Family::Sdxl);
    // A block without a number, or one too many: unknown, not a panic.
    let odd = [
        "input_blocks.x.0.op.bias",
        "output_blocks.99999999999999999999.0.a",
        "middle_block.7.a",
        "input_blocks.1.2.a",
        "input_blocks.0.9.a",
        "output_blocks.1.conv.x",
    ]
    .map(|n| format!("{unet}{n}"));
    let mut names: Vec<&str> = odd.iter().map(String::as_str).collect();
    names.extend([
        "first_stage_model.decoder.up.18446744073709551615.block.0.conv1.bias",
        "first_stage_model.decoder.up.x",
        "first_stage_model.encoder",
        "first_stage_model.other.x",
    ]);
    with_names(&file, &names);
    let text = Checkpoint::open(&file).unwrap_err().to_string();
    assert!(
        text.contains(unet) && text.contains("another kind"),
        "{text}"
    );
    let mut names = names.split_off(odd.len());
    names.push(&time);
    with_names(&file, &names);
    let unknown = Checkpoint::open(&file).unwrap().unknown().len();
    assert!(
        (names.len() - 3..names.len()).contains(&unknown),
        "{unknown}"
    );
}

/// open_clip stacks three projections; rows that three doesn't divide belong to nothing.
#[test]
fn stacked_projections_are_cut_by_rows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let values: Vec<f32> = (0..18).map(|i| i as f32).collect();
    let layer = "conditioner.embedders.1.model.transformer.resblocks.4.attn";
    let tensors = [
        NewTensor::f32(format!("{layer}.in_proj_weight"), &[9, 2], &values),
        NewTensor::f32(format!("{layer}.in_proj_bias"), &[10], &values[..10]),
        NewTensor::f32("model.diffusion_model.out.2.bias", &[1], &values[..1]),
    ];
    write_safetensors(&file, &tensors, &BTreeMap::new()).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!(checkpoint.unknown(), [format!("{layer}.in_proj_bias")]);
    let weights: Weights = checkpoint.weights("text_encoder_2").unwrap();
    let key = weights
        .tensor("text_model.encoder.layers.4.self_attn.k_proj.weight")
        .unwrap();
    assert_eq!((key.shape.as_slice(), key.dtype), (&[3, 2][..], DType::F32));
    assert_eq!(key.read_f32().unwrap(), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
}
