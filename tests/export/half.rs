//! `--dtype`, `--convert` and `--target`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use popalign::bundle::{Bundle, Part, Target};
use popalign::graph::DType;
use popalign::runtime::{ElementType, Ep, Runtime, SessionOptions};
use popalign::tensors::{DType as Stored, NewTensor, Weights, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::outputs::{DRAWING, same};
use crate::process::stderr;

/// Says in the VAE's configuration whether it overflows fp16.
fn force_upcast(world: &World, on: bool) {
    let mut config = world.json("vae/config.json");
    config["force_upcast"] = on.into();
    fs::write(world.src().join("vae/config.json"), config.to_string()).unwrap();
}

fn dtypes(out: &Path) -> BTreeMap<Part, DType> {
    let bundle = Bundle::open(out).unwrap();
    let parts = bundle.config().parts.iter();
    parts.map(|(&part, info)| (part, info.dtype)).collect()
}

#[test]
fn an_fp16_bundle_computes_in_fp16_but_measures_in_fp32() {
    let world = World::new();
    force_upcast(&world, false);
    let out = world.exported(&["--dtype", "fp16"]);
    for (part, dtype) in dtypes(&out) {
        let expected = match DRAWING.contains(&part) {
            true => DType::F16,
            false => DType::F32,
        };
        assert_eq!(dtype, expected, "{part}");
    }
    let bundle = Bundle::open(&out).unwrap();
    assert_eq!(bundle.config().dtype, "fp16");
    let runtime = Runtime::load().unwrap();
    let options = SessionOptions::default();
    let session = bundle.session(&runtime, Part::Unet, &options).unwrap();
    for (name, dtype) in [
        ("sample", ElementType::Float16),
        ("encoder_hidden_states", ElementType::Float16),
        ("text_embeds", ElementType::Float16),
        ("timestep", ElementType::Float32),
        ("time_ids", ElementType::Float32),
        ("lora_scale", ElementType::Float32),
    ] {
        assert_eq!(session.input(name).unwrap().dtype, dtype, "{name}");
    }
    assert_eq!(session.outputs()[0].dtype, ElementType::Float16);
}

#[test]
fn a_vae_that_overflows_fp16_stays_fp32_there_and_only_there() {
    let world = World::new();
    force_upcast(&world, true);
    let found = dtypes(&world.exported(&["--dtype", "fp16"]));
    assert_eq!(found[&Part::VaeDecoder], DType::F32);
    assert_eq!(found[&Part::VaeEncoder], DType::F32);
    assert_eq!(found[&Part::Unet], DType::F16);
    let found = dtypes(&world.exported(&["--dtype", "bf16"]));
    assert_eq!(found[&Part::VaeDecoder], DType::BF16);
}

#[test]
fn bf16_graphs_are_valid_and_refused_on_the_cpu_by_name() {
    let world = World::new();
    let out = world.exported(&["--dtype", "bf16"]);
    let bundle = Bundle::open(&out).unwrap();
    bundle.verify(&mut |_| ()).unwrap();
    let runtime = Runtime::load().unwrap();
    let error = bundle.session(&runtime, Part::Unet, &SessionOptions::default());
    let error = error.unwrap_err();
    let text = error.to_string();
    for part in ["unet computes with bf16", "cpu provider has no kernels"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(error.hint().unwrap().contains("--ep cuda"));
    // What can be loaded still is.
    let mut seen = Vec::new();
    bundle
        .verify_loads(&runtime, &mut |v| seen.push(format!("{v:?}")))
        .unwrap();
    assert!(seen.contains(&"Loaded(Classifier)".to_owned()), "{seen:?}");
    assert!(
        seen.iter().any(|s| s.starts_with("NotLoaded(Unet")),
        "{seen:?}"
    );
}

/// A Cast at each load and a conversion at export round alike.
#[test]
fn converted_weights_compute_what_cast_ones_do() {
    let world = World::new();
    force_upcast(&world, false);
    stored_as(&world, Stored::F32, |v| v * 1.0001);
    let cast = world.exported(&["--dtype", "fp16"]);
    let out = world.dir().join("converted");
    let output = pa_export()
        .arg(world.src())
        .args(["--dtype", "fp16", "--convert", "-o"])
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    same(&cast, &out, &[Part::Unet, Part::UnetGrad]);

    let bundle = Bundle::open(&out).unwrap();
    let record = &bundle.config().converted;
    let unet = record
        .iter()
        .find(|c| c.file == "unet/popalign-fp16.safetensors")
        .unwrap();
    assert_eq!(unet.dtype, DType::F16);
    let written = Weights::open_files([out.join(&unet.file)]).unwrap();
    assert_eq!(written.iter().count(), unet.tensors);
    assert!(written.iter().all(|t| t.dtype == Stored::F16));
    // One file for both graphs, and none of the checkpoint's: the bundle stands alone.
    let inode = |f: &str| fs::metadata(out.join(f)).unwrap().ino();
    assert_eq!(
        inode(&unet.file),
        inode("unet_grad/popalign-fp16.safetensors")
    );
    assert!(
        !out.join("unet/diffusion_pytorch_model.safetensors")
            .exists()
    );
    bundle.verify(&mut |_| ()).unwrap();
}

#[test]
fn weights_that_have_the_type_already_are_linked_as_ever() {
    let world = World::new();
    force_upcast(&world, false);
    stored_as(&world, Stored::F16, |v| v);
    let out = world.exported(&["--dtype", "fp16", "--convert", "--parts", "unet"]);
    let bundle = Bundle::open(&out).unwrap();
    assert!(bundle.config().converted.is_empty());
    let inode = |f: &Path| fs::metadata(f).unwrap().ino();
    let linked = out.join("unet/diffusion_pytorch_model.safetensors");
    assert_eq!(inode(&linked), inode(&world.unet_weights()));
}

#[test]
fn a_weight_that_fp16_cannot_hold_is_named() {
    let world = World::new();
    stored_as(&world, Stored::F32, |v| v);
    let path = world.unet_weights();
    rewrite(&path, Stored::F32, |name, v| match name {
        "conv_in.bias" => 7e4,
        _ => v,
    });
    let output = world.export(&["--dtype", "fp16", "--convert"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "`conv_in.bias`",
        "holds 70000",
        "F16",
        "hint: ",
        "--dtype bf16",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(world.leftovers(), [""; 0]);
}

/// What draws is fused; what trains and what measures is not. The CPU says which it can't run.
#[test]
fn a_bundle_for_cuda_is_refused_elsewhere_by_name() {
    let world = World::new();
    let out = world.exported(&["--target", "cuda"]);
    let bundle = Bundle::open(&out).unwrap();
    assert_eq!(bundle.config().target, Target::Cuda);
    for (part, info) in &bundle.config().parts {
        let fused = DRAWING.contains(part) && *part != Part::UnetGrad;
        assert_eq!(info.target == Target::Cuda, fused, "{part}");
    }
    bundle.verify(&mut |_| ()).unwrap();
    let runtime = Runtime::load().unwrap();
    for (ep, name) in [(Ep::Cpu, "cpu"), (Ep::TensorRt, "tensorrt")] {
        let options = SessionOptions {
            ep,
            ..SessionOptions::default()
        };
        let error = bundle.session(&runtime, Part::Unet, &options).unwrap_err();
        let expected = format!(
            "unet computes with fused operators for CUDA, for which ONNX Runtime's {name} provider"
        );
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(error.hint().unwrap().contains("--target plain"));
    }
    let plain = SessionOptions::default();
    bundle.session(&runtime, Part::UnetGrad, &plain).unwrap();
}

fn stored_as(world: &World, dtype: Stored, change: impl Fn(f32) -> f32) {
    rewrite(&world.unet_weights(), dtype, |_, v| change(v));
}

/// Rewrites a weight file in a type, with each value changed.
fn rewrite(path: &Path, dtype: Stored, change: impl Fn(&str, f32) -> f32) {
    let weights = Weights::open_files([path]).unwrap();
    let tensors: Vec<_> = weights
        .iter()
        .map(|t| {
            let values = t.read_f32().unwrap();
            let values = values.iter().map(|&v| change(&t.name, v));
            let data: Vec<u8> = match dtype {
                Stored::F16 => values
                    .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                    .collect(),
                _ => values.flat_map(f32::to_le_bytes).collect(),
            };
            NewTensor {
                name: t.name.clone(),
                dtype,
                shape: t.shape.clone(),
                data: data.into(),
            }
        })
        .collect();
    write_safetensors(path, &tensors, &BTreeMap::new()).unwrap();
}
