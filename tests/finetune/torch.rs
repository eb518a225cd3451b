//! A whole run against torch: its own network (diffusers, peft), loss, clipping and AdamW in double
//! precision, from the same start. `scripts/oracle/finetune.py` froze what came out:
//!
//! ```text
//! POPALIGN_ORACLE_WORLD=DIR cargo test --test finetune -- oracle_s_world
//! for run in popalign dpo sft preserve set snr alpha online; do
//!     python scripts/oracle/finetune.py --model DIR/model --data DIR/data --trace DIR/$run/trace \
//!         --freeze tests/fixtures/finetune/$run.safetensors
//! done
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use popalign::tensors::DType;

use crate::online::made_up;
use crate::process::succeeded;
use crate::world::{World, log, tensors};

/// Errors of the graph in single precision, as a share of the largest value (see `tests/nets.rs`),
/// after a few steps of its own.
const NETWORK: f64 = 1e-5;
/// The norm of the gradient, and a loss that β makes of differences of errors.
const DERIVED: f64 = 1e-4;
/// All that training added, as a share of the norm of what torch added. Adam divides each gradient
/// by its size, so elements with next to none move by rounding.
const UPDATE: f64 = 1e-3;

/// The runs that are frozen: their pairs per step, what they minimise, and other options to go with it.
const RUNS: [(&str, &str, &[&str]); 7] = [
    (
        "popalign",
        "3",
        &[
            "--loss",
            "popalign",
            "--beta",
            "400",
            "--alpha",
            "0.4",
            "--lr-schedule",
            "cosine",
        ],
    ),
    (
        "preserve",
        "3",
        &[
            "--loss",
            "popalign",
            "--beta",
            "400",
            "--preserve",
            "0.7",
            "--min-timestep",
            "200",
        ],
    ),
    (
        "dpo",
        "3",
        &[
            "--loss",
            "dpo",
            "--beta",
            "800",
            "--lr-schedule",
            "linear",
            "--grad-clip",
            "0.05",
        ],
    ),
    (
        "sft",
        "3",
        &[
            "--loss",
            "sft",
            "--lora-init",
            "kaiming",
            "--weight-decay",
            "0.1",
            "--adam-beta2",
            "0.99",
        ],
    ),
    (
        "set",
        "6",
        &[
            "--loss",
            "set",
            "--set-size",
            "3",
            "--beta",
            "500",
            "--timestep-sampling",
            "logit-normal",
            "--preserve",
            "0.3",
        ],
    ),
    (
        "snr",
        "3",
        &[
            "--loss",
            "sft",
            "--snr-gamma",
            "0.5",
            "--caption-dropout",
            "0.4",
        ],
    ),
    (
        "alpha",
        "3",
        &[
            "--loss",
            "dpo",
            "--beta",
            "300",
            "--lora-alpha",
            "5",
            "--caption-dropout",
            "0.4",
        ],
    ),
];
const STEPS: usize = 6;

fn options<'a>(batch: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = [
        "--batch", batch, "--warmup", "2", "--lr", "2e-3", "--steps", "6", "--seed", "5",
    ];
    [&common[..], more].concat()
}

fn fixture(run: &str) -> PathBuf {
    let name = format!("tests/fixtures/finetune/{run}.safetensors");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The values of a file's floating-point tensors.
fn values(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let all = tensors(path).into_iter();
    let floats = all.filter(|(_, t)| t.dtype == DType::F32);
    let doubles = |floats: Vec<f32>| floats.into_iter().map(f64::from).collect();
    floats
        .map(|(name, t)| (name, doubles(t.read_f32().unwrap())))
        .collect()
}

fn check(run: &str) {
    let (_, batch, more) = RUNS.into_iter().find(|(name, ..)| *name == run).unwrap();
    let world = World::new();
    let trace = world.dir().join("trace");
    let options = options(batch, more);
    world.trained(
        &[
            &options[..],
            &["--micro-batch", "4", "--trace", trace.to_str().unwrap()],
        ]
        .concat(),
    );
    let expected = values(&fixture(run));
    let lines = log(&world.out().join("log.jsonl"));
    assert_eq!(lines.len(), STEPS);
    compare(run, &trace, &expected);
}

/// Holds the steps of a trace to what torch made of them.
fn compare(run: &str, trace: &Path, expected: &BTreeMap<String, Vec<f64>>) {
    let step = |n: usize| values(&trace.join(format!("step-{n:05}.safetensors")));
    for n in 1..=STEPS {
        let found = step(n);
        for (name, tolerance) in [
            ("mse", NETWORK),
            ("ref_mse", NETWORK),
            ("loss", DERIVED),
            ("grad_norm", DERIVED),
        ] {
            let (a, b) = (&found[name], &expected[&format!("{n}.{name}")]);
            let scale = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (a, b) in a.iter().zip(b) {
                let error = (a - b).abs() / scale;
                assert!(
                    error <= tolerance,
                    "{run}, step {n}: {name} is off by {error:e}"
                );
            }
        }
    }
    let (first, last) = (step(1), step(STEPS));
    let (mut difference, mut moved) = (0.0, 0.0);
    let factors = expected
        .keys()
        .filter_map(|name| name.strip_prefix("lora."));
    for name in factors {
        let start = &first[&format!("lora.before.{name}")];
        let found = &last[&format!("lora.after.{name}")];
        for ((a, b), start) in found
            .iter()
            .zip(&expected[&format!("lora.{name}")])
            .zip(start)
        {
            difference += (a - b).powi(2);
            moved += (b - start).powi(2);
        }
    }
    assert!(moved > 0.0);
    let error = (difference / moved).sqrt();
    assert!(error <= UPDATE, "{run}: the update is off by {error:e}");
}

#[test]
fn a_popalign_run_is_torch_s() {
    check("popalign");
}

#[test]
fn a_run_that_preserves_captions_is_torch_s() {
    check("preserve");
}

#[test]
fn a_dpo_run_is_torch_s() {
    check("dpo");
}

#[test]
fn an_sft_run_is_torch_s() {
    check("sft");
}

#[test]
fn a_run_on_sets_is_torch_s() {
    check("set");
}

#[test]
fn a_run_weighted_by_min_snr_is_torch_s() {
    check("snr");
}

/// The graph has no alpha: what it is fed and gives back is multiplied.
#[test]
fn a_run_with_an_alpha_of_its_own_is_torch_s() {
    check("alpha");
}

/// Rounds of pictures, with DiffusionNFT's loss as its authors write it.
#[test]
fn a_run_of_rounds_is_torch_s() {
    let world = World::new();
    let trace = world.dir().join("trace");
    made_up(&world, &world.out(), &trace);
    compare("online", &trace, &values(&fixture("online")));
}

/// The runs that scripts/oracle/finetune.py freezes still end; it asks for their files.
#[test]
fn the_oracle_s_world() {
    let world = World::new();
    for (run, batch, more) in RUNS {
        let out = world.dir().join(run);
        let trace = out.join("trace");
        let options = options(batch, more);
        let options = [&options[..], &["--trace", trace.to_str().unwrap()]].concat();
        succeeded(&world.command_into(&out, &options).output().unwrap());
    }
    let out = world.dir().join("online");
    made_up(&world, &out, &out.join("trace"));
    if let Some(target) = std::env::var_os("POPALIGN_ORACLE_WORLD") {
        copy(world.dir(), Path::new(&target));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}
