//! Training-free methods and the rest of guidance against diffusers and the official code, frozen by
//! `scripts/oracle/baselines.py`; and what no method is asked for.

use std::collections::BTreeMap;
use std::fs;

use popalign::data::dataset::{Dataset, Kind};
use popalign::tensors::mapped::TensorFile;
use serde_json::{Map, Value};

use crate::process::{failed, stderr};
use crate::world::{DEMO, Model, SD15, SDXL, World, json, rescheduled, root};

/// Eight guided steps of a random network in another order of summation, as a share of the largest
/// latent: those of the tiny networks reach some tens.
const RELATIVE: f32 = 1e-4;

#[derive(serde::Deserialize)]
struct Cases {
    captions: Vec<String>,
    width: usize,
    height: usize,
    steps: usize,
    seed: u64,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    model: String,
    scheduler: Map<String, Value>,
    options: Vec<String>,
}

fn cases() -> Cases {
    serde_json::from_value(json(root().join("tests/fixtures/pipeline/baselines.json"))).unwrap()
}

/// A case's options for the command line.
fn options(case: &Case, all: &Cases, model: &Model) -> Vec<String> {
    let axes = model.bundle.join("axes.toml").display().to_string();
    let own = case.options.iter().map(|option| match option.as_str() {
        "AXES" => axes.clone(),
        "NEGATIVE" => "an odd hat!".to_owned(),
        other => other.to_owned(),
    });
    let size = format!("--size {}x{}", all.width, all.height);
    let common = format!(
        "--neutral 1 --steps {} --seed {} --format none {size}",
        all.steps, all.seed
    );
    common.split(' ').map(str::to_owned).chain(own).collect()
}

fn hold_to_the_oracle(name: &str, plain: &Model) {
    let all = cases();
    let frozen = root().join("tests/fixtures/pipeline/baselines.safetensors");
    let frozen = TensorFile::open(&frozen).unwrap();
    let captions: Vec<&str> = all.captions.iter().map(String::as_str).collect();
    let mut other: Option<Model> = None;
    let mut seen = 0;
    for case in all.cases.iter().filter(|case| case.model == name) {
        let model = match case.scheduler.is_empty() {
            true => plain,
            false => other.get_or_insert_with(|| rescheduled(name, &case.scheduler)),
        };
        let world = World::new(model, &captions);
        let options = options(case, &all, model);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let set = Dataset::open(world.done("out", &options)).unwrap();
        let (shape, expected) = frozen.f32(&format!("{name}.{}", case.name)).unwrap();
        assert_eq!(
            (shape[0], set.rows().len()),
            (captions.len(), captions.len())
        );
        let length = shape[1..].iter().product();
        let scale = expected.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        for (row, expected) in expected.chunks_exact(length).enumerate() {
            let found = set.latents(row).unwrap().iter();
            let worst = found
                .zip(expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            let name = format!("{name} {} {}", case.name, all.captions[row]);
            assert!(worst <= RELATIVE * scale, "{name}: {worst} of {scale}");
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_tiny_sdxl_is_steered_as_diffusers_and_the_official_code_steer_it() {
    hold_to_the_oracle("sdxl", &SDXL);
}

#[test]
fn a_tiny_sd15_is_steered_as_diffusers_steers_it() {
    hold_to_the_oracle("sd15", &SD15);
}

/// The options of a small data set with axes.
fn drawn<'a>(axes: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = [
        "--neutral",
        "12",
        "--specific",
        "1",
        "--steps",
        "3",
        "--format",
        "none",
        "--axes",
        axes,
    ];
    [&own[..], more].concat()
}

#[test]
fn identities_are_recorded_and_the_same_however_a_run_is_cut() {
    let world = World::new(&SDXL, &["ox", "cow"]);
    let axes = SDXL.bundle.join("axes.toml").display().to_string();
    for method in ["resample", "fair-diffusion"] {
        let options = drawn(&axes, &["--guidance", method]);
        let whole = world.done(&format!("{method}-whole"), &options);
        let more = drawn(
            &axes,
            &["--guidance", method, "--batch", "3", "--threads", "2"],
        );
        let again = world.done(&format!("{method}-batch"), &more);
        crate::world::same(&whole, &again);
        let (set, mut drawn) = (
            Dataset::open(&whole).unwrap(),
            BTreeMap::<String, usize>::new(),
        );
        for row in set.rows() {
            assert_eq!(row.identity.is_empty(), row.kind == Kind::Specific);
            let by_caption = method == "resample" && row.kind == Kind::Neutral;
            assert_eq!(row.drawn_prompt.is_some(), by_caption);
            if row.kind == Kind::Neutral {
                assert_eq!(
                    (&row.prompt, row.axes.len(), row.identity.len()),
                    (&row.subject, 0, 3)
                );
                *drawn.entry(row.identity["gender"].clone()).or_default() += 1;
            }
            if let Some(said) = &row.drawn_prompt {
                let letter = |axis: &str| row.identity[axis][..1].to_owned();
                let letters = ["age", "skin", "gender"].map(letter).join(" ");
                assert_eq!(*said, format!("{letters} {}", row.subject));
                // What it was drawn by is a caption of the set.
                set.embeddings(popalign::prompts::caption_id(said)).unwrap();
            }
        }
        assert_eq!(drawn.len(), 2, "{drawn:?}");
    }
    // Both methods draw the same people.
    let rows = |name: &str| {
        let set = Dataset::open(world.path(name)).unwrap();
        set.rows()
            .iter()
            .map(|row| row.identity.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(rows("resample-whole"), rows("fair-diffusion-whole"));
}

/// What the model was told of sizes goes with the data set.
#[test]
fn size_conditions_are_kept_with_the_data_set() {
    let world = World::new(&SDXL, &["ox"]);
    let base = [
        "--neutral",
        "1",
        "--steps",
        "1",
        "--format",
        "none",
        "--size",
        "24x32",
    ];
    let told = [&base[..], &["--original-size", "48x40", "--crop", "6,4"]].concat();
    let set = Dataset::open(world.done("told", &told)).unwrap();
    assert_eq!(set.time_ids(), [40.0, 48.0, 4.0, 6.0, 32.0, 24.0]);
    assert_eq!(set.manifest().config["original_size"], "48x40");
    assert_eq!(set.manifest().config["crop"], "6,4");
    let plain = world.done("plain", &base);
    let text = fs::read_to_string(plain.join("manifest.json")).unwrap();
    assert!(
        !text.contains("size_conditions") && !text.contains("crop"),
        "{text}"
    );
    let output = world.run("plain", &told);
    failed(&output, 1, &["another `", "hint: repeat the options"]);
}

#[test]
fn options_that_make_no_sense_together_are_refused() {
    let world = World::new(&SD15, &["ox"]);
    let axes = SD15.bundle.join("axes.toml").display().to_string();
    let fair = ["--guidance", "fair-diffusion", "--axes", &axes];
    let cases: [(&[&str], &[&str]); 15] = [
        (
            &["--original-size", "48x40"],
            &["--original-size 48x40", "SDXL is told of sizes"],
        ),
        (&["--crop", "1,2"], &["--crop 1,2", "SDXL is told of sizes"]),
        (
            &["--annealing", "0,1,1,1"],
            &["--guidance cfg: it anneals nothing"],
        ),
        (
            &["--compat", "official"],
            &["--guidance cfg: --compat is for cads and dynamic-cfg"],
        ),
        (
            &["--edits", "5,4,0.9,0.5,0.6"],
            &["--edits is for fair-diffusion"],
        ),
        (
            &["--fair-pca", "600,0.6"],
            &["--fair-pca is for fair-imagen"],
        ),
        (
            &["--guidance", "fair-imagen"],
            &["--guidance fair-imagen", "give --axes"],
        ),
        (
            &["--guidance", "fair-imagen", "--axes", &axes],
            &["--guidance fair-imagen", "this model has none"],
        ),
        (
            &["--guidance", "resample"],
            &["--guidance resample", "give --axes"],
        ),
        (
            &["--guidance", "fair-diffusion"],
            &["--guidance fair-diffusion", "give --axes"],
        ),
        (
            &["--guidance", "dynamic-cfg", "--cfg-interval", "0,0.5"],
            &["--cfg-interval is for"],
        ),
        (
            &["--cfg", "1", "--cfg-interval", "0,0.5"],
            &["--cfg 1", "expected more than 1"],
        ),
        (
            &["--cfg", "0", "--guidance-rescale", "0.7"],
            &["--cfg 0", "expected more than 1"],
        ),
        (
            &[&fair[..], &["--cfg", "1"]].concat(),
            &["--cfg 1", "expected more than 1"],
        ),
        (
            &[&fair[..], &["--guidance-rescale", "0.5"]].concat(),
            &["--guidance-rescale is for every"],
        ),
    ];
    for (options, expected) in cases {
        let options = [&["--neutral", "1", "--steps", "1"], options].concat();
        failed(&world.run("out", &options), 1, expected);
    }
    for (options, expected) in [
        (["--cfg-interval", "0.5,0.5"], "LO < HI"),
        (["--guidance-rescale", "1.5"], "from 0 to 1"),
        (["--edits", "1,2"], "WARMUP"),
        (["--crop", "1"], "X,Y"),
        (["--original-size", "0x1"], "WIDTHxHEIGHT"),
        (["--compat", "mine"], "paper, official"),
    ] {
        failed(&world.run("out", &options), 2, &[expected]);
    }
    assert!(!world.path("out").exists());
}

/// The axes of the shipped model say its edits in words that it knows.
#[test]
fn the_demo_model_is_drawn_by_every_method() {
    let world = World::new(&DEMO, &["doctor"]);
    let axes = DEMO.bundle.join("axes.toml").display().to_string();
    for method in [
        "cads",
        "dynamic-cfg",
        "fair-diffusion",
        "resample",
        "fair-imagen",
    ] {
        let output = world.run(
            method,
            &[
                "--guidance",
                method,
                "--axes",
                &axes,
                "--neutral",
                "2",
                "--specific",
                "0",
                "--steps",
                "6",
            ],
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "{method}: {}",
            stderr(&output)
        );
    }
}
