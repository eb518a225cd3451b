//! Training with an fp16 bundle.

use std::collections::BTreeMap;
use std::path::Path;

use popalign::tensors::{DType, NewTensor, Weights, write_safetensors};

use crate::process::stderr;
use crate::world::{World, tensors};

/// Sums over many elements of fp16 products point where fp32's do.
const COSINE: f64 = 0.999;
/// What a few steps of Adam add, as a share of the norm of what fp32 adds: it divides each gradient by
/// its size, so elements with next to none move by rounding.
const UPDATE: f64 = 0.05;

const OPTIONS: [&str; 12] = [
    "--batch", "2", "--warmup", "1", "--lr", "1e-3", "--steps", "4", "--seed", "5", "--loss", "sft",
];

/// The gradient of the first step and the factors after the last, whole.
fn run(world: &World, dtype: &str) -> [Vec<f64>; 2] {
    world.export(&["--lora-rank", "3", "--dtype", dtype]);
    let out = world.dir().join(dtype);
    let trace = world.dir().join(format!("trace-{dtype}"));
    let mut command = world.command_into(&out, &OPTIONS);
    let output = command.arg("--trace").arg(&trace).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let values = |file: &Path, prefix: &str| -> Vec<f64> {
        let named = tensors(file)
            .into_iter()
            .filter(|(name, _)| name.starts_with(prefix));
        named
            .flat_map(|(_, t)| t.read_f32().unwrap())
            .map(f64::from)
            .collect()
    };
    [
        values(&trace.join("step-00001.safetensors"), "grad.mid_block"),
        values(&trace.join("step-00004.safetensors"), "lora.after."),
    ]
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn fp16_takes_the_steps_that_fp32_takes() {
    let world = World::new();
    let [[grad, after], [half_grad, half_after]] = ["fp32", "fp16"].map(|d| run(&world, d));
    assert!(!grad.is_empty() && norm(&grad) > 0.0);
    assert_ne!(grad, half_grad, "the fp16 bundle computed in fp32");
    let dot: f64 = grad.iter().zip(&half_grad).map(|(a, b)| a * b).sum();
    let cosine = dot / (norm(&grad) * norm(&half_grad));
    assert!(cosine >= COSINE, "{cosine}");
    let apart: Vec<f64> = after.iter().zip(&half_after).map(|(a, b)| a - b).collect();
    let share = norm(&apart) / norm(&after);
    assert!(share <= UPDATE, "{share}");
}

/// The prediction overflows fp16: the step stops at the sample, and nothing of it is applied.
#[test]
fn a_loss_beyond_fp16_is_named() {
    let world = World::new();
    let path = world
        .source()
        .join("unet/diffusion_pytorch_model.safetensors");
    let weights = Weights::open_files([&path]).unwrap();
    let tensors: Vec<NewTensor<'_>> = weights
        .iter()
        .map(|t| {
            let raised = t.name == "conv_out.bias";
            let bytes = match raised {
                true => 1e5_f32.to_le_bytes().repeat(t.elements() as usize),
                false => t.read_bytes().unwrap(),
            };
            NewTensor {
                name: t.name.clone(),
                dtype: if raised { DType::F32 } else { t.dtype },
                shape: t.shape.clone(),
                data: bytes.into(),
            }
        })
        .collect();
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();
    world.export(&["--lora-rank", "3", "--dtype", "fp16"]);
    let output = world.run(&OPTIONS);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "step 1: unet_grad's `mse` of picture ",
        " is inf",
        "hint: fp16 overflows at 65504",
        "--dtype bf16 or fp32",
    ] {
        assert!(text.contains(part), "{text:?} should contain {part:?}");
    }
}
