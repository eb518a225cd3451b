//! Folders as people have them: a UNet alone with a base, shards, variants.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use popalign::bundle::{Bundle, Part};
use popalign::tensors::{NewTensor, Weights, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::outputs::same;
use crate::process::stderr;

/// Exports with more options than the world's own command, expecting success.
#[track_caller]
fn exported(src: &Path, out: &Path, base: &Path) -> String {
    let mut command = pa_export();
    command.arg(src).arg("-o").arg(out).arg("--base").arg(base);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

/// SDXL-DPO's repository has nothing but `unet/`.
#[test]
fn a_unet_alone_is_completed_by_the_base() {
    let world = World::new();
    let whole = world.exported(&["--detached"]);
    let (alone, out) = (world.dir().join("dpo"), world.dir().join("completed"));
    fs::create_dir(&alone).unwrap();
    fs::rename(world.src().join("unet"), alone.join("unet")).unwrap();
    // With the folder that has `unet/`, and with `unet/` itself.
    for src in [alone.clone(), alone.join("unet")] {
        exported(&src, &out, &world.src());
        same(
            &whole,
            &out,
            &[Part::TextEncoder2, Part::Unet, Part::VaeDecoder],
        );
        let bundle = Bundle::open(&out).unwrap();
        assert_eq!(
            bundle.config().pipeline.as_deref(),
            Some("StableDiffusionXLPipeline")
        );
        assert!(bundle.file("tokenizer_2/vocab.json").is_some());
        assert!(
            bundle.file("axes.toml").is_none(),
            "the base's axes are about the base"
        );
    }
    let output = pa_export()
        .arg(&alone)
        .arg("-o")
        .arg(&out)
        .args(["--parts", "vae_decoder"])
        .output();
    let text = stderr(&output.unwrap());
    assert!(
        text.contains("has no vae/config.json") && text.contains("hint: --base"),
        "{text}"
    );
}

#[test]
fn a_bundle_is_not_written_over_its_base() {
    let world = World::new();
    let mut command = pa_export();
    command
        .arg(world.src().join("unet"))
        .arg("-o")
        .arg(world.src().join("x"));
    let output = command.arg("--base").arg(world.src()).output().unwrap();
    assert!(
        stderr(&output).contains("must be separate folders"),
        "{}",
        stderr(&output)
    );
}

/// Cuts the UNet's weights in two shards with an index.
pub(crate) fn shard(world: &World) {
    let path = world.unet_weights();
    let weights = Weights::open_files([&path]).unwrap();
    let mut map = BTreeMap::new();
    let mut shards: [Vec<NewTensor<'_>>; 2] = Default::default();
    for (index, tensor) in weights.iter().enumerate() {
        let which = usize::from(index > 40);
        map.insert(tensor.name.clone(), format!("part-{which}.safetensors"));
        shards[which].push(NewTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            data: tensor.read_bytes().unwrap().into(),
        });
    }
    for (which, tensors) in shards.iter().enumerate() {
        let file = path.with_file_name(format!("part-{which}.safetensors"));
        write_safetensors(file, tensors, &BTreeMap::new()).unwrap();
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    let name = "diffusion_pytorch_model.safetensors.index.json";
    fs::write(path.with_file_name(name), index.to_string()).unwrap();
}

#[test]
fn shards_compute_what_the_one_file_does() {
    let world = World::new();
    world.exported(&[]);
    let whole = world.dir().join("whole");
    fs::rename(world.out(), &whole).unwrap();
    shard(&world);
    let weights = world.unet_weights();
    // The bundle made before must still find its source.
    fs::rename(&weights, weights.with_extension("old")).unwrap();
    let out = world.exported(&[]);
    assert!(out.join("unet/part-1.safetensors").is_file());
    fs::rename(weights.with_extension("old"), &weights).unwrap();
    same(&whole, &out, &[Part::Unet, Part::UnetGrad]);
}

#[test]
fn a_variant_is_taken_when_it_is_named() {
    let world = World::new();
    let plain = world.unet_weights();
    let variant = plain.with_file_name("diffusion_pytorch_model.fp16.safetensors");
    fs::copy(&plain, &variant).unwrap();
    let out = world.exported(&["--parts", "unet", "--variant", "fp16"]);
    assert!(
        out.join("unet/diffusion_pytorch_model.fp16.safetensors")
            .is_file()
    );
    let out = world.exported(&["--parts", "unet"]);
    assert!(
        out.join("unet/diffusion_pytorch_model.safetensors")
            .is_file()
    );
    let output = world.export(&["--parts", "unet", "--variant", "ema"]);
    let text = stderr(&output);
    assert!(
        text.contains("no weights of variant `ema` in") && text.contains("hint: "),
        "{text}"
    );
    let output = world.export(&["--variant", "../x"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
