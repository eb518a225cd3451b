//! What an export leaves on the disk, and that ONNX Runtime takes it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use popalign::bundle::{Bundle, Error, Part};
use popalign::runtime::{Feed, Runtime, SessionOptions, TensorSpec};

use crate::checkpoint::World;
use crate::outputs::inputs;
use crate::process::stderr;

fn names(specs: &[TensorSpec]) -> Vec<&str> {
    specs.iter().map(|s| s.name.as_str()).collect()
}

#[test]
fn the_layout_is_optimums_and_weights_are_linked() {
    let world = World::new();
    let out = world.exported(&[]);
    for file in [
        "bundle.json",
        "model_index.json",
        "axes.toml",
        "chain.toml",
        "prompts/train.csv",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer_2/vocab.json",
        "text_encoder/model.onnx",
        "text_encoder/config.json",
        "text_encoder_2/model.onnx",
        "unet/model.onnx",
        "unet/config.json",
        "unet_grad/model.onnx",
        "vae_decoder/model.onnx",
        "vae_decoder/config.json",
        "vae_encoder/model.onnx",
        "classifier/model.onnx",
        "classifier/config.json",
        "clip/text_model.onnx",
        "clip/vision_model.onnx",
        "clip/config.json",
    ] {
        assert!(out.join(file).is_file(), "{file} is missing");
    }
    let inode = |path| fs::metadata(path).unwrap().ino();
    let weights = inode(world.unet_weights());
    for folder in ["unet", "unet_grad"] {
        let link = out.join(folder).join("diffusion_pytorch_model.safetensors");
        assert_eq!(inode(link), weights, "{folder} has a copy");
    }
    assert_eq!(world.leftovers(), ["bundle"]);
    // Readable for others, as any folder a user makes.
    assert_eq!(
        fs::metadata(&out).unwrap().mode() & 0o077,
        fs::metadata(world.src()).unwrap().mode() & 0o077
    );
}

#[test]
fn every_part_loads_with_optimums_names() {
    let world = World::new();
    let bundle = Bundle::open(world.exported(&["--lora-rank", "3"])).unwrap();
    let runtime = Runtime::load().unwrap();
    let options = SessionOptions::default();
    let unet = [
        "sample",
        "timestep",
        "encoder_hidden_states",
        "text_embeds",
        "time_ids",
    ];
    let grad = [&unet[..], &["target"]].concat();
    for (part, inputs, outputs) in [
        (
            Part::TextEncoder,
            &["input_ids"][..],
            &["last_hidden_state", "pooler_output"][..],
        ),
        (
            Part::TextEncoder2,
            &["input_ids"],
            &["text_embeds", "last_hidden_state"],
        ),
        (Part::Unet, &unet, &["out_sample"]),
        (Part::UnetGrad, &grad, &["mse", "ref_mse"]),
        (Part::VaeDecoder, &["latent_sample"], &["sample"]),
        (Part::VaeEncoder, &["sample"], &["latent_parameters"]),
        (Part::Classifier, &["pixel_values"], &[]),
        (Part::ClipText, &["input_ids"], &["text_embeds"]),
        (Part::ClipVision, &["pixel_values"], &["image_embeds"]),
    ] {
        let session = bundle.session(&runtime, part, &options).unwrap();
        assert_eq!(names(session.inputs()), inputs, "{part}");
        let found = names(session.outputs());
        assert!(found.starts_with(outputs), "{part}: {found:?}");
        let info = bundle.part(part).unwrap();
        let recorded: Vec<&str> = info.inputs.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(recorded, inputs, "{part} in bundle.json");
        assert!(info.parameters > 0 && info.operations > 0);
        let takes_lora = matches!(part, Part::Unet | Part::UnetGrad);
        assert_eq!(!session.optional_inputs().is_empty(), takes_lora, "{part}");
    }
}

#[test]
fn lora_inputs_are_those_of_bundle_json() {
    let world = World::new();
    let bundle = Bundle::open(world.exported(&["--lora-rank", "3"])).unwrap();
    let lora = bundle.lora().unwrap();
    assert_eq!(lora.rank, 3);
    assert_eq!(lora.targets, ["to_k", "to_q", "to_v", "to_out.0"]);
    let runtime = Runtime::load().unwrap();
    for part in [Part::Unet, Part::UnetGrad] {
        let session = bundle
            .session(&runtime, part, &SessionOptions::default())
            .unwrap();
        assert_eq!(session.optional_inputs().len(), 2 * lora.modules.len() + 1);
        assert!(session.input("lora_scale").unwrap().dims.is_empty());
        for module in &lora.modules {
            let a = session.input(&module.input_a()).unwrap();
            assert_eq!(a.dims, [Some(3), Some(module.in_features as i64)]);
            let b = session.input(&module.input_b()).unwrap();
            assert_eq!(b.dims, [Some(module.out_features as i64), Some(3)]);
        }
    }
}

/// The files of zeros and the linked weights are where the graphs look for them.
#[test]
fn the_training_graph_runs_and_zero_lora_changes_nothing() {
    let world = World::new();
    let bundle = Bundle::open(world.exported(&[])).unwrap();
    let runtime = Runtime::load().unwrap();
    let mut session = bundle
        .session(&runtime, Part::UnetGrad, &SessionOptions::default())
        .unwrap();
    let arrays = inputs(&session);
    let mut feed = Feed::new();
    for (name, values, shape) in &arrays {
        feed.push_f32(name.as_str(), values.as_slice(), shape);
    }
    // With B at its default of zero the adapter does nothing, but B has a gradient if A has values.
    let module = &bundle.lora().unwrap().modules[0];
    let a = vec![0.1; 8 * module.in_features as usize];
    feed.push_f32(module.input_a(), a, &[8, module.in_features as usize]);
    let outputs = session.run(&feed).unwrap();
    let mse = outputs.f32_slice("mse").unwrap();
    assert_eq!(mse, outputs.f32_slice("ref_mse").unwrap());
    assert!(
        mse.len() == 2 && mse.iter().all(|m| m.is_finite() && *m > 0.0),
        "{mse:?}"
    );
    let gradient = outputs.f32(&format!("grad.{}", module.input_b())).unwrap();
    assert_eq!(gradient.shape(), [2, module.out_features as usize, 8]);
    assert!(gradient.iter().any(|g| *g != 0.0));
}

#[test]
fn parts_can_be_chosen() {
    let world = World::new();
    let bundle = Bundle::open(world.exported(&["--parts", "vae_decoder,unet"])).unwrap();
    let parts: Vec<&str> = bundle.config().parts.keys().map(|p| p.name()).collect();
    assert_eq!(parts, ["unet", "vae_decoder"]);
    let error = bundle.path(Part::UnetGrad).unwrap_err();
    assert!(matches!(
        error,
        Error::NoPart {
            part: Part::UnetGrad,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .ends_with("has no unet_grad; it has unet, vae_decoder"),
        "{error}"
    );

    let bundle = Bundle::open(world.exported(&["--no-grad"])).unwrap();
    assert!(!bundle.has(Part::UnetGrad) && bundle.has(Part::ClipVision));
}

#[test]
fn exporting_again_replaces_the_bundle_with_the_same_bytes() {
    let world = World::new();
    let out = world.exported(&[]);
    let graphs = || fs::read(out.join("unet_grad/model.onnx")).unwrap();
    let first = graphs();
    fs::write(out.join("stale"), "").unwrap();
    world.exported(&[]);
    assert!(graphs() == first, "two exports of one checkpoint differ");
    assert!(!out.join("stale").exists());
    assert_eq!(world.leftovers(), ["bundle"]);
    Bundle::open(out).unwrap();
}

#[test]
fn events_are_json_lines_and_messages_are_not() {
    let world = World::new();
    let output = world.export(&["--json", "--parts", "vae_decoder"]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "part");
    assert_eq!(events[0]["part"], "vae_decoder");
    assert_eq!(events.last().unwrap()["event"], "done");
    let messages = stderr(&output);
    assert!(
        messages.contains("vae_decoder: ") && !messages.contains('\u{1b}'),
        "{messages:?}"
    );

    let failed = world.export(&["--json", "--size", "33x64"]);
    let event: serde_json::Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(event["event"], "error");
    assert!(
        event["error"][0].as_str().unwrap().contains("--size 33x64"),
        "{event}"
    );
}

/// Shards, variants and weights in half precision are found and run.
#[test]
fn half_precision_weights_are_pointed_at_as_they_are() {
    let world = World::new();
    let path = world.unet_weights();
    let weights = popalign::tensors::Weights::open_files([&path]).unwrap();
    let mut halves = Vec::new();
    for tensor in weights.iter() {
        let values = tensor.read_f32().unwrap();
        let values: Vec<half::f16> = values.into_iter().map(half::f16::from_f32).collect();
        let shape: Vec<usize> = tensor.shape.iter().map(|&d| d as usize).collect();
        halves.push((tensor.name.clone(), shape, values));
    }
    let tensors: Vec<_> = halves
        .iter()
        .map(|(name, shape, values)| popalign::tensors::NewTensor::f16(name, shape, values))
        .collect();
    let variant = path.with_file_name("diffusion_pytorch_model.fp16.safetensors");
    popalign::tensors::write_safetensors(variant, &tensors, &Default::default()).unwrap();
    fs::remove_file(path).unwrap();
    let out = world.exported(&[]);
    assert!(
        out.join("unet/diffusion_pytorch_model.fp16.safetensors")
            .is_file()
    );
    let runtime = Runtime::load().unwrap();
    let bundle = Bundle::open(out).unwrap();
    let session = bundle
        .session(&runtime, Part::UnetGrad, &SessionOptions::default())
        .unwrap();
    assert_eq!(session.outputs()[0].name, "mse");
}
