//! `--lora --merge`, `--list` and `--verify`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use popalign::bundle::{Bundle, Part};
use popalign::lora;
use popalign::lora::{Factors, KohyaNames, LoraAdapter};
use popalign::tensors::{NewTensor, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::outputs::{outputs, outputs_with};
use crate::process::{self, stderr};

/// Merging rounds each weight once to the fp16 it is stored in; the graph adds in fp32.
const ROUNDING: f32 = 2e-2;

/// Factors on every layer that the bundle takes LoRA on, of ranks that differ.
fn adapter(bundle: &Bundle) -> LoraAdapter {
    let value = |i: usize| ((i * 29 % 83) as f32 - 41.0) / 200.0;
    let modules = bundle.lora().unwrap().modules.iter().enumerate();
    let factors = modules.map(|(index, module)| {
        let (rank, alpha) = (1 + index % 3, 2.0);
        let a = (0..rank * module.in_features as usize).map(value).collect();
        let b = (0..rank * module.out_features as usize)
            .map(value)
            .collect();
        (module.path.clone(), Factors { a, b, rank, alpha })
    });
    LoraAdapter {
        modules: factors.collect(),
    }
}

#[track_caller]
fn near(a: &[f32], b: &[f32], what: &str) {
    let size = b.iter().fold(0_f32, |m, v| m.max(v.abs()));
    let far = a
        .iter()
        .zip(b)
        .fold(0_f32, |m, (x, y)| m.max((x - y).abs()));
    assert!(far <= ROUNDING * size, "{what}: {far} of {size}");
}

/// Merged weights give the pictures that the same adapter gives at run time (which tests/nets.rs
/// holds to PEFT).
#[test]
fn a_merged_adapter_is_the_adapter_at_run_time() {
    let world = World::new();
    let plain = world.exported(&[]);
    let bundle = Bundle::open(&plain).unwrap();
    let adapter = adapter(&bundle);
    let file = world.dir().join("kohya.safetensors");
    lora::write_kohya(&file, &adapter, KohyaNames::Sgm, None).unwrap();
    let taken = &bundle.lora().unwrap();
    let fitted = adapter.fit(&taken.modules, taken.rank as usize).unwrap();
    let expected = outputs_with(&plain, Part::Unet, Some(&fitted));
    let without = outputs(&plain, Part::Unet);
    let out = world.dir().join("merged");
    // Half of it twice is all of it.
    let half = format!("{}:0.5", file.display());
    let mut command = pa_export();
    command.arg(world.src()).arg("-o").arg(&out).arg("--merge");
    let output = command
        .args(["--lora", &half, "--lora", &half])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let merged = outputs(&out, Part::Unet);
    near(&merged[0].1, &expected[0].1, "out_sample");
    assert!(without[0].1 != merged[0].1);

    let bundle = Bundle::open(&out).unwrap();
    let record = &bundle.config().merged;
    assert_eq!((record.len(), record[0].scale), (2, 0.5));
    assert_eq!(record[0].weights["unet"], adapter.modules.len());
    // Only the touched tensors were written, once for both graphs.
    let weights =
        popalign::tensors::Weights::open_files([out.join("unet/popalign-merged.safetensors")])
            .unwrap();
    assert_eq!(weights.iter().count(), adapter.modules.len());
    let inode = |f: &str| fs::metadata(out.join(f)).unwrap().ino();
    assert_eq!(
        inode("unet/popalign-merged.safetensors"),
        inode("unet_grad/popalign-merged.safetensors")
    );
}

/// A text encoder's adapter in kohya's and in diffusers' names changes it alike.
#[test]
fn text_encoders_are_merged_too() {
    let world = World::new();
    let width = world.json("text_encoder/config.json")["hidden_size"]
        .as_u64()
        .unwrap() as usize;
    let (a, b) = (vec![0.3; 2 * width], vec![0.2; 2 * width]);
    let kohya = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj";
    let diffusers = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
    let mut found = Vec::new();
    for (name, down, up) in [
        (kohya, ".lora_down.weight", ".lora_up.weight"),
        (diffusers, ".lora_A.weight", ".lora_B.weight"),
        (
            diffusers,
            ".lora_linear_layer.down.weight",
            ".lora_linear_layer.up.weight",
        ),
    ] {
        let file = world.dir().join("te.safetensors");
        let tensors = [
            NewTensor::f32(format!("{name}{down}"), &[2, width], &a),
            NewTensor::f32(format!("{name}{up}"), &[width, 2], &b),
        ];
        write_safetensors(&file, &tensors, &BTreeMap::new()).unwrap();
        let out = world.exported(&["--merge", "--lora", file.to_str().unwrap()]);
        found.push(outputs(&out, Part::TextEncoder));
        let output = world.export(&[
            "--merge",
            "--lora",
            file.to_str().unwrap(),
            "--parts",
            "unet",
        ]);
        assert!(
            stderr(&output).contains("changes text_encoder, which is not among"),
            "{}",
            stderr(&output)
        );
    }
    assert!(found[0] == found[1] && found[1] == found[2]);
    let plain = world.exported(&[]);
    assert!(outputs(&plain, Part::TextEncoder) != found[0]);
}

#[test]
fn adapters_that_are_no_plain_lora_are_named() {
    let world = World::new();
    let file = world.dir().join("x.safetensors");
    for (key, shape, expected) in [
        (
            "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
            vec![2, 2],
            "LoHa",
        ),
        (
            "lora_unet_mid_block_attentions_0_proj_in.lokr_w1",
            vec![2, 2],
            "LoKr",
        ),
        (
            "lora_unet_mid_block_attentions_0_proj_in.dora_scale",
            vec![2, 2],
            "DoRA",
        ),
        (
            "lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight",
            vec![2, 2, 3, 3],
            "LoCon",
        ),
        (
            "unet.down_blocks.0.resnets.0.conv1.lora_A.weight",
            vec![2, 2, 3, 3],
            "a convolution LoRA",
        ),
        (
            "unet.down_blocks.9.attn.lora_A.weight",
            vec![2, 2],
            "has no B (up) factor",
        ),
    ] {
        let count = shape.iter().product();
        let zeros = vec![0.0; count];
        write_safetensors(
            &file,
            &[NewTensor::f32(key, &shape, &zeros)],
            &BTreeMap::new(),
        )
        .unwrap();
        let output = world.export(&["--merge", "--lora", file.to_str().unwrap()]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(expected) && text.contains("x.safetensors"),
            "{text}"
        );
    }
    let output = world.export(&["--lora", "x"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

fn inspect(option: &str, bundle: &Path) -> (bool, String, String) {
    let mut command = process::pa_export();
    let output = command.arg(option).arg(bundle).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.success(), text, stderr(&output))
}

#[test]
fn a_bundle_is_listed_and_verified() {
    let world = World::new();
    let out = world.exported(&[]);
    let (done, text, _) = inspect("--list", &out);
    assert!(done);
    for expected in [
        "vae_decoder: ",
        "in  latent_sample f32 [batch_size, 4, height, width]",
        "LoRA inputs of rank 8",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let (done, _, messages) = inspect("--verify", &out);
    assert!(done, "{messages}");
    for expected in [
        "unet_grad: valid",
        "unet_grad: loaded",
        "clip_vision: loaded",
        ": whole",
    ] {
        assert!(messages.contains(expected), "{messages}");
    }
    // Of the same length and time: only the hash tells.
    let file = out.join("model_index.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("XLPipeline", "XLpipeline")).unwrap();
    let (done, _, messages) = inspect("--verify", &out);
    assert!(
        !done && messages.contains("model_index.json was changed"),
        "{messages}"
    );
}

/// What is written obeys the checker's rules; what breaks one is named.
#[test]
fn graphs_are_held_to_the_checkers_rules() {
    let world = World::new();
    let out = world.exported(&["--parts", "vae_decoder"]);
    let path = out.join("vae_decoder/model.onnx");
    popalign::graph::check(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let replaced = |from: &[u8], to: &[u8]| {
        // The last: a node's name holds its operator's too, and stands before it.
        let at = bytes.windows(from.len()).rposition(|w| w == from).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        fs::write(&path, changed).unwrap();
        popalign::graph::check(&path).unwrap_err().to_string()
    };
    assert!(replaced(b"Sigmoid", b"Sigmoit").contains("unknown operator `Sigmoit`"));
    assert!(replaced(b"strides", b"strider").contains("attribute `strider` is wrong"));
    let text = replaced(b"diffusion_pytorch_model.", b"../fusion_pytorch_model.");
    assert!(
        text.contains("no plain file in the model's folder"),
        "{text}"
    );
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(popalign::graph::check(&path).is_err());
    fs::write(&path, bytes).unwrap();
    fs::write(
        out.join("vae_decoder/diffusion_pytorch_model.safetensors"),
        "short",
    )
    .unwrap();
    let text = popalign::graph::check(&path).unwrap_err().to_string();
    assert!(text.contains("points behind the end of"), "{text}");
}
