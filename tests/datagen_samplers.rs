//! Every sampler against diffusers' schedulers, frozen by `scripts/oracle/schedulers.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use clap::ValueEnum;
use popalign::diffusion::samplers::{History, SAMPLERS, SamplerKind};
use popalign::diffusion::schedule::SchedulerConfig;
use popalign::tensors::mapped::TensorFile;

/// Both sides work in float32 and in the same order; what is left are last bits of `pow`, `log`
/// and `linspace`, which 50 steps do not blow up beyond this.
const RELATIVE: f32 = 1e-5;

#[derive(serde::Deserialize)]
struct Case {
    sampler: String,
    steps: usize,
    config: serde_json::Value,
}

fn kind(name: &str) -> SamplerKind {
    SamplerKind::from_str(name, false).unwrap()
}

fn close(name: &str, found: &[f32], expected: &[f32]) {
    close_within(name, found, expected, 1.0);
}

/// With at least `scale` for what differences are relative to.
fn close_within(name: &str, found: &[f32], expected: &[f32], scale: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(scale, |m, x| m.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= RELATIVE * scale,
            "{name}[{i}]: {a} for {b}"
        );
    }
}

/// The oracle's denoiser.
fn toy(x: &[f32], t: f64) -> Vec<f32> {
    let element = |(k, x): (usize, &f32)| 0.3 * x + 0.1 * (k as f32).sin() - (t / 5000.0) as f32;
    x.iter().enumerate().map(element).collect()
}

#[test]
fn trajectories_are_those_of_diffusers() {
    let folder = Path::new("tests/fixtures/schedulers");
    let cases = std::fs::read(folder.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let file = TensorFile::open(&folder.join("trajectories.safetensors")).unwrap();
    assert!(cases.len() >= 70);
    for kind in SAMPLERS {
        let mut has = cases.iter().map(|case| &case.sampler);
        assert!(has.any(|name| name == kind.name()), "no case of {kind:?}");
    }
    for (number, case) in cases.iter().enumerate() {
        let name = |key: &str| format!("{number}.{key}");
        let frozen = |key: &str| file.f32(&name(key)).unwrap().1;
        let config = case.config.to_string();
        let config = SchedulerConfig::parse(config.as_bytes(), Path::new("frozen")).unwrap();
        let sampler = kind(&case.sampler).set_up(&config, case.steps).unwrap();

        let timesteps: Vec<f32> = sampler.timesteps().iter().map(|&t| t as f32).collect();
        close(&name("timesteps"), &timesteps, frozen("timesteps"));
        close(
            &name("init"),
            &[sampler.init_noise_sigma()],
            frozen("init_noise_sigma"),
        );
        if !sampler.sigmas().is_empty() {
            close(&name("sigmas"), sampler.sigmas(), frozen("sigmas"));
        }
        let mut x: Vec<f32> = frozen("start")
            .iter()
            .map(|n| n * sampler.init_noise_sigma())
            .collect();
        let length = x.len();
        // From σ = 4096 a sample falls to a hundredth in a step: what cancels leaves its rounding.
        let scale = match config.zero_terminal_snr {
            true => x.iter().fold(1.0f32, |m, x| m.max(x.abs())),
            false => 1.0,
        };
        let mut history = History::default();
        for (i, expected) in frozen("samples").chunks(length).enumerate() {
            let divisor = sampler.input_divisor(i);
            let input: Vec<f32> = x.iter().map(|x| x / divisor).collect();
            let output = toy(&input, sampler.timesteps()[i]);
            let noise = match sampler.needs_noise() {
                true => &frozen("noise")[i * length..(i + 1) * length],
                false => &[],
            };
            sampler.step(i, &output, &mut x, noise, &mut history);
            let name = format!("{number} {} step {i}", case.sampler);
            close_within(&name, &x, expected, scale);
        }
    }
}

#[test]
fn a_batch_is_only_a_longer_slice() {
    let config = SchedulerConfig::parse(
        b"{\"steps_offset\":1,\"timestep_spacing\":\"leading\"}",
        Path::new("x"),
    )
    .unwrap();
    for kind in SAMPLERS {
        let sampler = kind.set_up(&config, 6).unwrap();
        let run = |mut x: Vec<f32>| {
            let mut history = History::default();
            for i in 0..sampler.steps() {
                let output: Vec<f32> = x.iter().map(|x| x.sin()).collect();
                let noise: Vec<f32> = x.iter().map(|x| x.cos()).collect();
                sampler.step(i, &output, &mut x, &noise, &mut history);
            }
            x
        };
        let (a, b) = (vec![0.3, -1.2], vec![2.0, 0.1]);
        let joined = run([a.clone(), b.clone()].concat());
        assert_eq!(joined, [run(a), run(b)].concat(), "{kind:?}");
    }
}

#[test]
fn steps_out_of_range_are_refused() {
    let config = SchedulerConfig::parse(b"{}", Path::new("x")).unwrap();
    for (name, steps) in [
        ("euler", 0),
        ("euler", 1001),
        ("dpmpp_2m", 1000),
        ("lcm", 51),
    ] {
        let error = kind(name).set_up(&config, steps).unwrap_err().to_string();
        assert!(error.contains(&format!("--steps is {steps}")), "{error}");
    }
}

/// A configuration asks of diffusers' class what the sampler isn't; the others leave it alone.
#[test]
fn what_a_sampler_can_not_follow_is_refused_by_it_alone() {
    for (json, key, refusing) in [
        (
            r#"{"thresholding":true}"#,
            "thresholding",
            &["ddim", "dpmpp_2m", "dpmpp_2m_karras", "lcm"][..],
        ),
        (
            r#"{"interpolation_type":"log_linear"}"#,
            "interpolation_type",
            &["euler"],
        ),
        (
            r#"{"solver_order":3}"#,
            "solver_order",
            &["dpmpp_2m", "dpmpp_2m_karras"],
        ),
        (
            r#"{"algorithm_type":"sde-dpmsolver++"}"#,
            "algorithm_type",
            &["dpmpp_2m", "dpmpp_2m_karras"],
        ),
        (
            r#"{"solver_type":"heun"}"#,
            "solver_type",
            &["dpmpp_2m", "dpmpp_2m_karras"],
        ),
        (
            r#"{"use_lu_lambdas":true}"#,
            "use_lu_lambdas",
            &["dpmpp_2m", "dpmpp_2m_karras"],
        ),
        (
            r#"{"lambda_min_clipped":-1.0}"#,
            "lambda_min_clipped",
            &["dpmpp_2m", "dpmpp_2m_karras"],
        ),
        (
            r#"{"rescale_betas_zero_snr":true}"#,
            "rescale_betas_zero_snr",
            &["ddim", "lcm"],
        ),
        (
            r#"{"original_inference_steps":2000}"#,
            "original_inference_steps",
            &["lcm"],
        ),
        (
            r#"{"use_karras_sigmas":true,"use_beta_sigmas":true}"#,
            "use_beta_sigmas",
            &["euler", "dpmpp_2m"],
        ),
    ] {
        let config = SchedulerConfig::parse(json.as_bytes(), Path::new("x")).unwrap();
        for kind in SAMPLERS {
            let found = kind.set_up(&config, 5);
            assert_eq!(
                found.is_err(),
                refusing.contains(&kind.name()),
                "{kind:?} {json}"
            );
            if let Err(error) = found {
                let text = error.to_string();
                assert!(text.contains(key) && text.contains(kind.name()), "{text}");
            }
        }
    }
}
