//! fp16 graphs against diffusers, transformers and peft in fp32: what half precision costs, and that
//! it costs no more than that.
//!
//! ONNX Runtime's CPU provider computes parts of an fp16 graph in fp32. `scripts/oracle/half.py`
//! rounds after every operation, as a GPU does, and does bf16, which has no CPU kernels.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of tests fails and reports as a test does"
)]

mod nets_support;

use std::path::Path;

use nets_support::{Part, cases, open, relative_error, run};
use popalign::graph::{DType, Graph};
use popalign::lora::LoraSpec;
use popalign::nets::graphs::{self, Options};
use popalign::nets::read_config;
use popalign::nets::vae::VaeConfig;
use popalign::tensors::Weights;

/// A few units in fp16's last place (2⁻¹¹) of the largest value, after a network's worth of
/// roundings.
const FP16_NETWORK: f32 = 8.0 / 2048.0;
/// The same of text encoders, whose last normalisation divides by what may be a small deviation:
/// transformers' own `half()` is up to 1.5e-2 away on these models.
const FP16_TEXT: f32 = 1.5e-2;
/// The least cosine of a gradient with torch's fp32 autograd.
const FP16_COSINE: f64 = 0.999;

fn options(compute: DType) -> Options {
    let lora = LoraSpec {
        rank: 2,
        ..LoraSpec::default()
    };
    Options {
        compute,
        lora: Some(lora),
        ..Options::default()
    }
}

/// Builds the network in a folder of a case, runs `part`, and gives its outputs beside the frozen
/// ones.
fn outputs(
    case: &Path,
    folder: &str,
    part: &str,
    build: impl FnOnce(&Path, &Weights) -> Graph,
) -> Vec<(String, Vec<f32>, Vec<f32>)> {
    let source = case.join(folder);
    let weights = Weights::open_dir(&source).unwrap();
    let mut session = open(&build(&source.join("config.json"), &weights), &weights);
    let expected = Part::open(case, part);
    let found = run(&mut session, &expected.inputs, expected.batch());
    let pairs = expected.outputs.into_iter();
    pairs
        .map(|(name, array)| {
            let values = found.f32_vec(&name).unwrap();
            (name, values, array.f32s)
        })
        .collect()
}

fn near(case: &Path, part: &str, outputs: &[(String, Vec<f32>, Vec<f32>)], limit: f32) {
    for (name, found, expected) in outputs {
        let error = relative_error(found, expected);
        println!("{} {part} {name}: {error:e}", case.display());
        assert!(
            error <= limit,
            "{} {part}: {name} is off by {error:e}",
            case.display()
        );
    }
}

#[test]
fn text_encoders_in_fp16_are_near_transformers() {
    for case in cases() {
        for folder in ["text_encoder", "text_encoder_2"] {
            if !case.join(folder).is_dir() {
                continue;
            }
            let found = outputs(&case, folder, folder, |config, w| {
                let (config, w) = (read_config(config).unwrap(), w.scope(""));
                let build = match folder {
                    "text_encoder" => graphs::text_encoder,
                    _ => graphs::text_encoder_2,
                };
                build(&config, &w, &options(DType::F16)).unwrap()
            });
            near(&case, folder, &found, FP16_TEXT);
        }
    }
}

#[test]
fn unets_in_fp16_are_near_diffusers() {
    for case in cases() {
        let found = outputs(&case, "unet", "unet", |config, w| {
            let config = read_config(config).unwrap();
            let built = graphs::unet(&config, &w.scope(""), &options(DType::F16));
            built.unwrap().graph
        });
        near(&case, "unet", &found, FP16_NETWORK);
    }
}

#[test]
fn vaes_in_fp16_are_near_diffusers() {
    for case in cases() {
        for part in ["vae_encoder", "vae_decoder"] {
            let found = outputs(&case, "vae", part, |config, w| {
                let (config, w) = (read_config(config).unwrap(), w.scope(""));
                let build = match part {
                    "vae_encoder" => graphs::vae_encoder,
                    _ => graphs::vae_decoder,
                };
                build(&config, &w, &options(DType::F16)).unwrap()
            });
            near(&case, part, &found, FP16_NETWORK);
        }
    }
}

#[test]
fn gradients_in_fp16_point_where_autograd_in_fp32_does() {
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        let options = part.with_targets(options(DType::F16));
        let found = outputs(&case, "unet", "unet_grad", |config, w| {
            let config = read_config(config).unwrap();
            let built = graphs::unet_grad(&config, &w.scope(""), &options);
            built.unwrap().graph
        });
        let mut least = 1.0_f64;
        for (name, found, expected) in &found {
            if !name.starts_with("grad.") {
                assert!(relative_error(found, expected) <= FP16_NETWORK, "{name}");
                continue;
            }
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
                products.sum()
            };
            let (square, length) = (dot(expected, expected), dot(found, found).sqrt());
            let cosine = dot(found, expected) / (length * square.sqrt());
            least = least.min(cosine);
            assert!(cosine >= FP16_COSINE, "{} {name}: {cosine}", case.display());
            // Nor is it scaled: the loss scale is taken out again.
            let size = length / square.sqrt();
            assert!((size - 1.0).abs() < 0.02, "{name} is {size} as long");
        }
        println!("{}: least cosine {least}", case.display());
    }
}

/// Softmax, statistics, time and losses keep fp32 in graphs of both half types, and so do the
/// inputs and outputs that the contract says.
#[test]
fn what_half_precision_would_spoil_stays_fp32() {
    let case = cases()
        .into_iter()
        .find(|case| case.join("text_encoder_2").is_dir())
        .unwrap();
    let folder = case.join("unet");
    let weights = Weights::open_dir(&folder).unwrap();
    let config = read_config(&folder.join("config.json")).unwrap();
    for compute in [DType::F16, DType::BF16] {
        let built = graphs::unet_grad(&config, &weights.scope(""), &options(compute)).unwrap();
        let graph = built.graph;
        for (name, value, _) in graph.inputs() {
            let expected = match name {
                "sample" | "encoder_hidden_states" | "text_embeds" => compute,
                "checkpoint_gate" => DType::Bool,
                _ => DType::F32,
            };
            assert_eq!(graph.dtype(value), expected, "{name}");
        }
        for (name, value) in graph.outputs() {
            assert_eq!(graph.dtype(*value), DType::F32, "{name}");
        }
        for (op, input, output) in graph.operations() {
            match op {
                "Softmax" | "Sin" | "Cos" | "ReduceMean" => assert_eq!(input, DType::F32, "{op}"),
                "MatMul" | "Conv" | "Gelu" => {
                    assert!(input == compute || op == "MatMul", "{op} takes {input:?}");
                    assert_eq!(input, output, "{op}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn only_fp16_and_only_a_vae_that_overflows_it_is_upcast() {
    let vae = |force_upcast| VaeConfig {
        force_upcast,
        ..VaeConfig::default()
    };
    assert_eq!(vae(true).compute(DType::F16), DType::F32);
    assert_eq!(vae(true).compute(DType::BF16), DType::BF16);
    assert_eq!(vae(false).compute(DType::F16), DType::F16);
}
