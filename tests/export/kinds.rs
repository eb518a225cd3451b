//! Checkpoints of another kind: what isn't understood is refused by name before anything is written, or
//! done as its author does it.

use std::fs;
use std::path::{Path, PathBuf};

use popalign::bundle::Bundle;
use popalign::diffusion::schedule::{SchedulerConfig, Spacing};
use popalign::tensors::{NewTensor, Weights, write_safetensors};

use crate::checkpoint::{World, pa_export};
use crate::process::{failed, stderr};

const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// What `EDMDPMSolverMultistepScheduler` saves, as Playground v2.5 has it.
const EDM: &str = r#"{"_class_name": "EDMDPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++",
    "final_sigmas_type": "zero", "num_train_timesteps": 1000, "prediction_type": "epsilon",
    "rho": 7.0, "sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002, "solver_order": 2}"#;

/// Exports a tiny SDXL with that scheduler.
fn with_scheduler(text: &str) -> World {
    let world = World::new();
    fs::write(world.src().join(SCHEDULER), text).unwrap();
    world
}

#[test]
fn schedulers_of_another_kind_are_refused_by_name() {
    let flow = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}"#;
    let nameless = EDM.replace("\"_class_name\": \"EDMDPMSolverMultistepScheduler\",", "");
    let sub = r#"{"_class_name": "EulerDiscreteScheduler", "surprise": 1}"#;
    let learned = r#"{"_class_name": "DDPMScheduler", "variance_type": "learned"}"#;
    for (text, expected) in [
        (EDM, ["_class_name", "EDMDPMSolverMultistepScheduler"]),
        (flow, ["_class_name", "FlowMatchEulerDiscreteScheduler"]),
        (&nameless, ["rho", "7.0"]),
        (sub, ["surprise", "another kind"]),
        (learned, ["variance_type", "learned"]),
    ] {
        let world = with_scheduler(text);
        for options in [&[][..], &["--no-grad"]] {
            failed(
                &world.export(options),
                1,
                &[&[SCHEDULER], &expected[..]].concat(),
            );
        }
        assert_eq!(world.leftovers(), [""; 0], "something was left behind");
    }
}

/// A pipeline makes the class that `model_index.json` names.
#[test]
fn so_is_one_that_only_the_index_names() {
    let world = World::new();
    let index = r#"{"_class_name": "StableDiffusionXLPipeline",
        "scheduler": ["diffusers", "EDMEulerScheduler"]}"#;
    fs::write(world.src().join("model_index.json"), index).unwrap();
    failed(
        &world.export(&[]),
        1,
        &["model_index.json", "`scheduler` is EDMEulerScheduler"],
    );
}

/// Writes the SDXL fixture as a single file with more tensors.
fn single(world: &World, more: &[NewTensor<'_>]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/checkpoints/sdxl.safetensors");
    let weights = Weights::open_files([&fixture]).unwrap();
    let mut tensors: Vec<NewTensor<'_>> = weights
        .iter()
        .map(|t| NewTensor {
            name: t.name.clone(),
            dtype: t.dtype,
            shape: t.shape.clone(),
            data: t.read_bytes().unwrap().into(),
        })
        .collect();
    tensors.extend(more.iter().cloned());
    let file = world.dir().join("single.safetensors");
    write_safetensors(&file, &tensors, &Default::default()).unwrap();
    file
}

fn export_single(world: &World, more: &[NewTensor<'_>]) -> std::process::Output {
    let mut command = pa_export();
    command.arg(single(world, more)).arg("-o").arg(world.out());
    command.arg("--base").arg(world.src()).arg("--no-grad");
    command.output().unwrap()
}

#[test]
fn tensors_that_change_a_checkpoints_meaning_are_refused_by_name() {
    let world = World::new();
    let unet = "model.diffusion_model";
    for (name, length) in [
        ("edm_mean", 4),
        ("edm_std", 4),
        ("edm_vpred.sigma_max", 1),
        ("edm_vpred.sigma_min", 1),
        ("scaled_fp8", 0),
        ("rectified_flow", 0),
        (&format!("{unet}.time_embed.cond_proj.weight"), 40),
        (&format!("{unet}.scaled_fp8"), 2),
    ] {
        let values = vec![1.0; length];
        let more = [NewTensor::f32(name, &[length], &values)];
        failed(
            &export_single(&world, &more),
            1,
            &["single.safetensors", name],
        );
        assert_eq!(world.leftovers(), [""; 0], "something was left behind");
    }
    // A layer of the UNet has more than it computes with.
    let layer = "input_blocks.1.0.in_layers.2.scale_weight";
    let more = [NewTensor::f32(format!("{unet}.{layer}"), &[1], &[2.0])];
    let found = "down_blocks.0.resnets.0.conv1.scale_weight";
    failed(
        &export_single(&world, &more),
        1,
        &["single.safetensors", found],
    );
}

#[test]
fn what_is_large_and_beside_the_networks_is_only_said() {
    let world = World::new();
    let more = [NewTensor::f32("embedding_manager.x", &[5, 5], &[0.0; 25])];
    let output = export_single(&world, &more);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("embedding_manager.x"),
        "{}",
        stderr(&output)
    );
}

/// A multistep solver's configuration has Python's word for minus infinity; the file's marks are
/// added to it, and both are followed.
#[test]
fn a_files_marks_are_added_to_what_diffusers_saved() {
    let world = with_scheduler(
        r#"{"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "scaled_linear",
            "lambda_min_clipped": -Infinity, "use_karras_sigmas": true}"#,
    );
    let marks = ["v_pred", "ztsnr"].map(|name| NewTensor::f32(name, &[0], &[]));
    let output = export_single(&world, &marks);
    assert!(output.status.success(), "{}", stderr(&output));
    let bundle = Bundle::open(world.out()).unwrap();
    let path = bundle.dir().join(SCHEDULER);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"lambda_min_clipped\": -Infinity"), "{text}");
    let config = SchedulerConfig::read(&path).unwrap();
    assert!(config.zero_terminal_snr);
    assert_eq!(config.prediction.name(), "v_prediction");
    // Whoever starts from pure noise has to begin at the last step.
    assert_eq!(config.spacing, Some(Spacing::Trailing));
}
