//! Graphs made for one job against torch, diffusers and peft (frozen as in `tests/nets.rs`), and against
//! the exported graphs.

use std::collections::BTreeMap;
use std::path::Path;

use popalign::graph::{DType, Graph, Operators};
use popalign::lora::LoraSpec;
use popalign::nets::graphs::{self, Options, PlannedSizes};
use popalign::nets::read_config;
use popalign::runtime::{Ep, Outputs, Session, SessionOptions};
use popalign::tensors::Weights;

use crate::nets_support::{Array, Part, cases, open, open_with, relative_error, run};

/// As in `tests/nets.rs`: fp32 sums in another order over a whole network and its gradients.
const FP32_NETWORK: f32 = 1e-4;
/// As in `tests/nets_half.rs`: what fp16 costs a network's errors and gradients.
const FP16_NETWORK: f32 = 8.0 / 2048.0;
const FP16_COSINE: f64 = 0.999;

const ALL: [Operators; 3] = [Operators::Standard, Operators::Products, Operators::Cuda];

/// Options of a case's part for the first so many samples.
fn options(part: &Part, batch: usize, made_for: Option<Operators>) -> Options {
    let size = |name: &str, axis: usize| part.inputs[name].shape[axis] as u64;
    let spec = LoraSpec {
        rank: 2,
        ..LoraSpec::default()
    };
    Options {
        lora: Some(spec),
        plan: PlannedSizes {
            batch: batch as u64,
            latent: [size("sample", 2), size("sample", 3)],
            tokens: size("encoder_hidden_states", 1),
        },
        made_for,
        ..Options::default()
    }
}

/// The part's inputs as a graph without `lora_scale` takes them, and the scale: what B is multiplied by.
fn scaled(part: &Part) -> (BTreeMap<String, Array>, f32) {
    let scale = part.inputs.get("lora_scale").map_or(1.0, |a| a.f32s[0]);
    let mut inputs = part.inputs.clone();
    inputs.remove("lora_scale");
    for (name, array) in &mut inputs {
        if name.contains("lora_B") {
            array.f32s.iter_mut().for_each(|x| *x *= scale);
        }
    }
    (inputs, scale)
}

/// An output as the exported graph has it.
fn value(outputs: &Outputs, name: &str, scale: f32) -> Vec<f32> {
    let mut values = outputs.f32_vec(name).unwrap();
    if name.contains("lora_B") {
        values.iter_mut().for_each(|x| *x *= scale);
    }
    values
}

fn gradient(case: &Path, weights: &Weights, options: Options) -> Graph {
    let options = Part::open(case, "unet_grad").with_targets(options);
    let config = read_config(&case.join("unet/config.json")).unwrap();
    let built = graphs::unet_grad(&config, &weights.scope(""), &options).unwrap();
    built.graph
}

/// Opens a graph as large models are: without a pass over it, weights where they are.
fn open_finished(graph: &Graph, weights: &Weights) -> Session {
    let options = SessionOptions {
        weights_in_place: true,
        finished: true,
        ..SessionOptions::new(Ep::Cpu, 0, 1)
    };
    open_with(graph, weights, &options)
}

/// The largest error over all outputs of a training graph, with its name.
fn gradients_off(case: &Path, options: Options, batch: usize, finished: bool) -> (f32, String) {
    let part = Part::open(case, "unet_grad");
    let (inputs, scale) = scaled(&part);
    let weights = Weights::open_dir(case.join("unet")).unwrap();
    let graph = gradient(case, &weights, options);
    let mut session = match finished {
        true => open_finished(&graph, &weights),
        false => open(&graph, &weights),
    };
    let outputs = run(&mut session, &inputs, batch);
    let mut worst = (0.0, String::new());
    for (name, expected) in &part.outputs {
        let found = value(&outputs, name, scale);
        let each = expected.f32s.len() / part.batch();
        for (i, (a, b)) in found
            .chunks(each)
            .zip(expected.f32s.chunks(each))
            .enumerate()
        {
            let error = relative_error(a, b);
            if error > worst.0 {
                worst = (error, format!("{name}, sample {i} of {batch}"));
            }
        }
    }
    worst
}

#[test]
fn gradients_equal_autograd_with_peft() {
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        for operators in ALL {
            for (batch, checkpointing, finished) in [(part.batch(), false, false), (1, true, true)]
            {
                let options = Options {
                    checkpointing,
                    ..options(&part, batch, Some(operators))
                };
                let (error, name) = gradients_off(&case, options, batch, finished);
                let at = format!("{} {operators:?}, {batch}, {checkpointing}", case.display());
                println!("{at}: {error:e} ({name})");
                assert!(error <= FP32_NETWORK, "{at}: {name} is off by {error:e}");
            }
        }
    }
}

/// Where attention is cut, what is computed again is cut too.
#[test]
fn gradients_of_cut_attention_equal_autograd() {
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        for operators in ALL {
            let options = Options {
                checkpointing: true,
                score_limit: Some(1 << 9),
                ..options(&part, 2, Some(operators))
            };
            let (error, name) = gradients_off(&case, options, 2, true);
            let case = case.display();
            assert!(
                error <= FP32_NETWORK,
                "{case} {operators:?}: {name} is off by {error:e}"
            );
        }
    }
}

/// With an adapter of zeros both errors have the same bits, so that implied rewards begin at 0.
#[test]
fn errors_have_the_same_bits_without_lora() {
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        let (mut inputs, _) = scaled(&part);
        for (name, array) in &mut inputs {
            if name.contains("lora_B") {
                array.f32s.fill(0.0);
            }
        }
        let weights = Weights::open_dir(case.join("unet")).unwrap();
        for (operators, checkpointing) in ALL.into_iter().zip([false, true, true]) {
            let options = Options {
                checkpointing,
                ..options(&part, 2, Some(operators))
            };
            let graph = gradient(&case, &weights, options);
            // On the CPU a small model's graph goes through ONNX Runtime's passes.
            let mut session = match operators {
                Operators::Products => open(&graph, &weights),
                _ => open_finished(&graph, &weights),
            };
            let outputs = run(&mut session, &inputs, 2);
            let [a, b] = ["mse", "ref_mse"].map(|name| outputs.f32_vec(name).unwrap());
            assert_eq!(a, b, "{} {operators:?} {checkpointing}", case.display());
        }
    }
}

#[test]
fn fp16_gradients_are_near_autograd() {
    for case in cases() {
        let part = Part::open(&case, "unet_grad");
        let weights = Weights::open_dir(case.join("unet")).unwrap();
        let (inputs, scale) = scaled(&part);
        for operators in ALL {
            let half = Options {
                compute: DType::F16,
                ..options(&part, part.batch(), Some(operators))
            };
            let mut session = open_finished(&gradient(&case, &weights, half), &weights);
            let found = run(&mut session, &inputs, part.batch());
            for (name, expected) in &part.outputs {
                let at = format!("{} {operators:?} {name}", case.display());
                let (found, expected) = (value(&found, name, scale), &expected.f32s);
                if !name.starts_with("grad.") {
                    let error = relative_error(&found, expected);
                    assert!(error <= FP16_NETWORK, "{at}: {error:e}");
                    continue;
                }
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    products.sum()
                };
                let lengths = [&found, expected].map(|v| dot(v, v).sqrt());
                let cosine = dot(&found, expected) / (lengths[0] * lengths[1]);
                assert!(cosine >= FP16_COSINE, "{at}: {cosine}");
                assert!(
                    (lengths[0] / lengths[1] - 1.0).abs() < 0.02,
                    "{at}: {lengths:?}"
                );
            }
        }
    }
}

/// Forward graphs of the operators that a CPU has.
#[test]
fn unets_equal_diffusers() {
    for case in cases() {
        let weights = Weights::open_dir(case.join("unet")).unwrap();
        let config = read_config(&case.join("unet/config.json")).unwrap();
        for (name, batch) in [("unet", 2), ("unet", 3), ("unet_wide", 1)] {
            let part = Part::open(&case, name);
            for operators in [Operators::Standard, Operators::Products] {
                let options = Options {
                    lora: None,
                    ..options(&part, batch, Some(operators))
                };
                let built = graphs::unet(&config, &weights.scope(""), &options).unwrap();
                let mut session = open_finished(&built.graph, &weights);
                let found = run(&mut session, &part.inputs, batch);
                let found = found.f32_vec("out_sample").unwrap();
                let expected = &part.outputs["out_sample"].f32s[..found.len()];
                let error = relative_error(&found, expected);
                let case = case.display();
                assert!(
                    error <= FP32_NETWORK,
                    "{case} {name} {operators:?}: {error:e}"
                );
            }
        }
    }
}
