//! Pictures, latents and tokens against diffusers and transformers, frozen by
//! `scripts/oracle/pipeline.py`.

use std::fs;
use std::path::Path;

use image::RgbImage;
use popalign::base::fsio;
use popalign::data::dataset::Dataset;
use popalign::diffusion::tokenizer::Tokenizer;
use popalign::tensors::mapped::TensorFile;
use serde_json::Value;

use crate::world::{DEMO, Model, SD15, SDXL, World, json};

/// What the issue asks of pictures: within this of diffusers' everywhere.
const BYTES: u8 = 2;
/// What fp16 may change at a pixel (an edge that moves a little), and on average.
const FP16_BYTES: u8 = 12;
const FP16_MEAN: f64 = 0.2;
/// Latents have a standard deviation of about 1; 20 guided steps in another order of summation move
/// them by some 1e-4.
const LATENTS: f32 = 5e-3;

#[derive(serde::Deserialize)]
struct Cases {
    steps: usize,
    width: u32,
    height: u32,
    captions: Vec<String>,
    seed: u64,
    weights: std::collections::BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    sampler: Option<String>,
    cfg: Option<f64>,
    guidance: Option<String>,
    annealing: Option<String>,
    negative: Option<String>,
    lora: Option<String>,
    lora_scale: Option<f64>,
}

impl Case {
    fn options(&self, model: &Model) -> Vec<String> {
        let mut options = Vec::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                options.extend([format!("--{name}"), value]);
            }
        };
        let file = |name: &String| model.fixture.join(name).display().to_string();
        put("sampler", self.sampler.clone());
        put("cfg", self.cfg.map(|x| x.to_string()));
        put("guidance", self.guidance.clone());
        put("annealing", self.annealing.clone());
        put("negative", self.negative.clone());
        put("lora", self.lora.as_ref().map(file));
        put("lora-scale", self.lora_scale.map(|x| x.to_string()));
        options
    }
}

fn cases(model: &Model) -> Cases {
    serde_json::from_value(json(model.fixture.join("cases.json"))).unwrap()
}

/// Draws every case of a model and holds it to diffusers'.
fn hold_to_diffusers(model: &Model) {
    let cases = cases(model);
    for (file, sha256) in &cases.weights {
        let path = model.source.join(file);
        assert_eq!(
            &fsio::sha256(&path).unwrap(),
            sha256,
            "{} is not what the fixture was made with; regenerate it with: \
             PYTHONPATH=scripts/oracle python scripts/oracle/pipeline.py",
            path.display()
        );
    }
    let captions: Vec<&str> = cases.captions.iter().map(String::as_str).collect();
    let world = World::new(model, &captions);
    let frozen = TensorFile::open(&model.fixture.join("latents.safetensors")).unwrap();
    for case in &cases.cases {
        let (steps, seed) = (cases.steps.to_string(), cases.seed.to_string());
        let size = format!("{}x{}", cases.width, cases.height);
        let more = case.options(model);
        let mut options = vec!["--neutral", "1", "--steps", &steps, "--seed", &seed];
        options.extend(["--size", &size]);
        options.extend(more.iter().map(String::as_str));
        let set = Dataset::open(world.done(&case.name, &options)).unwrap();
        let (shape, expected) = frozen.f32(&case.name).unwrap();
        assert_eq!(shape[0], captions.len());
        let sheet = image::open(model.fixture.join(format!("{}.png", case.name)));
        let sheet = sheet.unwrap().into_rgb8();
        let length = shape[1..].iter().product();
        for (index, expected) in expected.chunks_exact(length).enumerate() {
            let name = format!("{} picture {index}", case.name);
            assert_eq!(set.rows()[index].prompt, cases.captions[index]);
            close(&name, set.latents(index).unwrap(), expected);
            let picture = image::open(set.image_path(index).unwrap()).unwrap();
            let top = index as u32 * cases.height;
            let frozen = image::imageops::crop_imm(&sheet, 0, top, cases.width, cases.height);
            alike(&name, &picture.into_rgb8(), &frozen.to_image());
        }
    }
}

#[track_caller]
fn close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0, f32::max);
    assert!(worst <= LATENTS, "{name}: latents differ by {worst}");
}

#[track_caller]
fn alike(name: &str, found: &RgbImage, expected: &RgbImage) {
    assert_eq!(found.dimensions(), expected.dimensions(), "{name}");
    let worst = found
        .iter()
        .zip(expected.iter())
        .map(|(a, b)| a.abs_diff(*b));
    let worst = worst.max().unwrap();
    assert!(worst <= BYTES, "{name}: pixels differ by {worst}");
}

#[test]
fn a_tiny_sdxl_draws_what_diffusers_draws() {
    hold_to_diffusers(&SDXL);
}

#[test]
fn a_tiny_sd15_draws_what_diffusers_draws() {
    hold_to_diffusers(&SD15);
}

#[test]
fn the_demo_model_draws_what_diffusers_draws() {
    hold_to_diffusers(&DEMO);
}

/// The same noise drawn in half precision is the same picture to the eye.
#[test]
fn the_demo_model_draws_in_fp16_what_it_draws_in_fp32() {
    let options = ["--no-grad", "--dtype", "fp16"];
    let half = Model::export("demo-fp16", DEMO.source.clone(), &options);
    let options = ["--neutral", "2", "--steps", "12", "--cfg", "2.5"];
    let captions = ["a photo of a doctor", "a photo of a nurse"];
    let draw = |model: &Model| World::new(model, &captions).drawn(&options);
    let (single, half) = (draw(&DEMO), draw(&half));
    assert_eq!((single.len(), half.len()), (4, 4));
    assert!(single != half, "the fp16 bundle computed in fp32");
    for (name, expected) in &single {
        let (found, expected) = (&half[name], expected.as_raw());
        let pairs = || found.as_raw().iter().zip(expected);
        let worst = pairs().map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let sum: u64 = pairs().map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / expected.len() as f64;
        assert!(
            worst <= FP16_BYTES && mean <= FP16_MEAN,
            "{name}: {worst}, {mean}"
        );
    }
}

#[test]
fn both_lora_formats_are_the_same_adapter() {
    let world = World::new(&SDXL, &["ox"]);
    let run = |out: &str, file: &str| {
        let file = SDXL.fixture.join(file).display().to_string();
        let options = ["--neutral", "1", "--steps", "2", "--lora", &file];
        world.done(out, &options)
    };
    let (diffusers, kohya) = (run("a", "lora.safetensors"), run("b", "kohya.safetensors"));
    let latents = |dir: &Path| fs::read(dir.join("latents-00000.safetensors")).unwrap();
    assert_eq!(latents(&diffusers), latents(&kohya));
    let hash =
        |dir: &Path| json(dir.join("manifest.json"))["config"]["lora"]["factors_sha256"].clone();
    assert_eq!(hash(&diffusers), hash(&kohya));
    let plain = world.done("c", &["--neutral", "1", "--steps", "2"]);
    assert_ne!(latents(&plain), latents(&kohya));
}

fn hold_tokens(dir: &Path, frozen: &Value) {
    for case in frozen.as_array().unwrap() {
        let expected: Vec<i64> = serde_json::from_value(case["ids"].clone()).unwrap();
        let tokenizer = Tokenizer::open(dir, expected.len()).unwrap();
        let text = case["text"].as_str().unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens.ids, expected, "{}: {text:?}", dir.display());
    }
}

#[test]
fn captions_are_cut_into_the_tokens_of_transformers() {
    for model in [&*SDXL, &*SD15, &*DEMO] {
        let frozen = json(model.fixture.join("tokens.json"));
        for (name, cases) in frozen.as_object().unwrap() {
            let dir = model.bundle.join(name);
            hold_tokens(&dir, cases);
            // The same from the files that the original checkpoints have.
            let bare = tempfile::tempdir().unwrap();
            let files = ["vocab.json", "merges.txt", "tokenizer_config.json"];
            for file in files {
                fs::copy(dir.join(file), bare.path().join(file)).unwrap();
            }
            hold_tokens(bare.path(), cases);
        }
    }
}
