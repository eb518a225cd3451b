//! `--trace`: every number of a step computed again, in double precision and from the formulas of
//! the papers, not from ours.

use std::collections::BTreeMap;
use std::path::Path;

use popalign::bundle::{Bundle, Part};
use popalign::data::dataset::Dataset;
use popalign::runtime::{Feed, Runtime, SessionOptions};

use crate::world::{LATENT, World, log, tensors};

/// One operation in single precision, against the same in double, as a share of the largest value.
pub(crate) const ROUNDING: f64 = 1e-6;
/// A few operations after each other.
const FEW_ROUNDINGS: f64 = 4e-6;
/// The graph at another batch size: ONNX Runtime's matrix products sum in another order.
const NETWORK: f64 = 1e-5;

/// One trace file.
pub(crate) struct Step {
    values: BTreeMap<String, Vec<f64>>,
    integers: BTreeMap<String, Vec<i64>>,
}

impl Step {
    pub(crate) fn open(dir: &Path, step: usize) -> Self {
        let path = dir.join(format!("step-{step:05}.safetensors"));
        let (mut values, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in tensors(&path) {
            if ["timestep", "label", "caption_id"].contains(&name.as_str()) {
                let bytes = tensor.read_bytes().unwrap();
                let ints = bytes.as_chunks::<8>().0.iter();
                integers.insert(name, ints.map(|b| i64::from_le_bytes(*b)).collect());
            } else {
                let floats = tensor.read_f32().unwrap();
                values.insert(name, floats.into_iter().map(f64::from).collect());
            }
        }
        Self { values, integers }
    }

    pub(crate) fn get(&self, name: &str) -> &[f64] {
        &self.values[name]
    }

    pub(crate) fn captions(&self) -> &[i64] {
        &self.integers["caption_id"]
    }

    pub(crate) fn scalar(&self, name: &str) -> f64 {
        self.values[name][0]
    }

    /// Names of the LoRA's factors.
    pub(crate) fn factors(&self) -> Vec<&str> {
        let names = self.values.keys();
        names.filter_map(|n| n.strip_prefix("grad.")).collect()
    }
}

/// Largest difference as a share of the largest expected value.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0.0f64, |a, b| {
            if b.is_nan() {
                f64::INFINITY
            } else {
                a.max(b.abs())
            }
        })
    };
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / largest(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

#[track_caller]
pub(crate) fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let error = error(found, expected);
    assert!(error <= tolerance, "{what} is off by {error:e}");
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// -log sigmoid(z).
pub(crate) fn softplus_of_minus(z: f64) -> f64 {
    (-z).max(0.0) + (-z.abs()).exp().ln_1p()
}

/// Loss, offset and factors from the errors of a batch, as the papers write them.
pub(crate) fn loss(
    kind: &str,
    beta: f64,
    alpha: f64,
    mse: &[f64],
    reference: &[f64],
) -> (f64, f64, Vec<f64>) {
    let n = mse.len() as f64;
    let g: Vec<f64> = reference.iter().zip(mse).map(|(r, m)| r - m).collect();
    let winner = |i: usize| i.is_multiple_of(2);
    let mean = |side: bool| {
        let of = g.iter().enumerate().filter(|(i, _)| winner(*i) == side);
        of.map(|(_, g)| g).sum::<f64>() / (n / 2.0)
    };
    let sign = |i: usize| if winner(i) { 1.0 } else { -1.0 };
    match kind {
        // Official main.py: z = sgn β (g - kl), kl = α mean(g+) + (1 - α) mean(g-), detached.
        "popalign" => {
            let mu = alpha * mean(true) + (1.0 - alpha) * mean(false);
            let z: Vec<f64> = g
                .iter()
                .enumerate()
                .map(|(i, g)| sign(i) * beta * (g - mu))
                .collect();
            let c = z
                .iter()
                .enumerate()
                .map(|(i, z)| sign(i) * beta * sigmoid(-z) / n);
            (
                z.iter().map(|&z| softplus_of_minus(z)).sum::<f64>() / n,
                mu,
                c.collect(),
            )
        }
        // Diffusion-DPO: inside = -0.5 β ((m_w - m_l) - (r_w - r_l)), mean over pairs.
        "dpo" => {
            let pairs = n / 2.0;
            let inside: Vec<f64> = (0..mse.len() / 2)
                .map(|p| {
                    let (w, l) = (2 * p, 2 * p + 1);
                    -0.5 * beta * ((mse[w] - mse[l]) - (reference[w] - reference[l]))
                })
                .collect();
            let total = inside.iter().map(|&z| softplus_of_minus(z)).sum::<f64>() / pairs;
            let c = (0..mse.len()).map(|i| sign(i) * 0.5 * beta * sigmoid(-inside[i / 2]) / pairs);
            (total, 0.0, c.collect())
        }
        // The paper's equation 8 on one set: its winners' summed rewards against its losers'.
        "set" => {
            let lead: f64 = (0..mse.len()).map(|i| sign(i) * g[i]).sum();
            let z = 0.5 * beta * lead;
            let c = (0..mse.len()).map(|i| sign(i) * 0.5 * beta * sigmoid(-z));
            (softplus_of_minus(z), 0.0, c.collect())
        }
        // The mean error of the winners.
        _ => {
            let c = (0..mse.len()).map(|i| if winner(i) { 2.0 / n } else { 0.0 });
            let winners = mse.iter().enumerate().filter(|(i, _)| winner(*i));
            (
                winners.map(|(_, m)| m).sum::<f64>() * 2.0 / n,
                0.0,
                c.collect(),
            )
        }
    }
}

/// AdamW as torch documents it, with its own moments.
#[derive(Default)]
struct AdamW {
    moments: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
}

impl AdamW {
    const BETAS: (f64, f64) = (0.9, 0.999);
    const EPS: f64 = 1e-8;
    const DECAY: f64 = 1e-2;

    fn step(&mut self, t: i32, lr: f64, name: &str, p: &[f64], g: &[f64]) -> Vec<f64> {
        let zeros = || (vec![0.0; p.len()], vec![0.0; p.len()]);
        let (m, v) = self.moments.entry(name.to_owned()).or_insert_with(zeros);
        let (b1, b2) = Self::BETAS;
        (0..p.len())
            .map(|k| {
                m[k] = b1 * m[k] + (1.0 - b1) * g[k];
                v[k] = b2 * v[k] + (1.0 - b2) * g[k] * g[k];
                let (m, v) = (m[k] / (1.0 - b1.powi(t)), v[k] / (1.0 - b2.powi(t)));
                p[k] * (1.0 - lr * Self::DECAY) - lr * m / (v.sqrt() + Self::EPS)
            })
            .collect()
    }
}

/// The scaled-linear schedule's ᾱ, in double precision.
fn signal_levels() -> Vec<f64> {
    let (low, high) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let mut product = 1.0;
    (0..1000)
        .map(|i| {
            let beta = (low + (high - low) * f64::from(i) / 999.0).powi(2);
            product *= 1.0 - beta;
            product
        })
        .collect()
}

const STEPS: usize = 4;
/// Pictures of a step: three pairs.
const BATCH: usize = 6;
const WARMUP: f64 = 2.0;
const LR: f64 = 5e-3;

fn check_diffusion(step: &Step, dataset: &Dataset) {
    let (t, labels) = (&step.integers["timestep"], &step.integers["label"]);
    assert_eq!(labels, &[1, 0, 1, 0, 1, 0]);
    let each: usize = LATENT.iter().product();
    let levels = signal_levels();
    let (clean, noise) = (step.get("latents"), step.get("noise"));
    assert_eq!(step.get("target"), noise, "the network predicts the noise");
    for i in 0..BATCH {
        assert_eq!(t[i], t[i / 2 * 2], "one time step for both sides of a pair");
        let own = i * each..(i + 1) * each;
        let twin = (i / 2 * 2) * each..(i / 2 * 2 + 1) * each;
        assert_eq!(noise[own.clone()], noise[twin], "and one noise");
        let level = levels[t[i] as usize];
        let mixed: Vec<f64> = own
            .clone()
            .map(|k| level.sqrt() * clean[k] + (1.0 - level).sqrt() * noise[k])
            .collect();
        close("sample", &step.get("sample")[own.clone()], &mixed, ROUNDING);
        let known = |row: usize| {
            let latents = dataset.latents(row).unwrap();
            latents
                .iter()
                .zip(&clean[own.clone()])
                .all(|(&a, &b)| f64::from(a) == b)
        };
        let caption = step.integers["caption_id"][i] as u32;
        let found = (0..dataset.rows().len()).find(|&row| known(row)).unwrap();
        let neutral = &dataset.rows()[found].neutral_prompt;
        assert_eq!(caption, popalign::prompts::caption_id(neutral));
    }
}

/// The graph itself, at the whole batch (the run used micro-batches).
fn check_network(step: &Step, world: &World, dataset: &Dataset) {
    let bundle = Bundle::open(world.bundle()).unwrap();
    let options = SessionOptions::default();
    let mut session = bundle
        .session(&Runtime::load().unwrap(), Part::UnetGrad, &options)
        .unwrap();
    let f32s = |name: &str| -> Vec<f32> { step.get(name).iter().map(|&x| x as f32).collect() };
    let [c, h, w] = LATENT;
    let mut feed = Feed::new();
    for name in ["sample", "target"] {
        feed.push_f32(name, f32s(name), &[BATCH, c, h, w]);
    }
    feed.push_i64("timestep", step.integers["timestep"].clone(), &[BATCH]);
    let (mut embeds, mut pooled, mut shape) = (Vec::new(), Vec::new(), [0; 2]);
    for &id in &step.integers["caption_id"] {
        let text = dataset.embeddings(id as u32).unwrap();
        embeds.extend_from_slice(text.prompt_embeds);
        pooled.extend_from_slice(text.pooled.unwrap());
        shape = text.shape;
    }
    feed.push_f32(
        "encoder_hidden_states",
        embeds,
        &[BATCH, shape[0], shape[1]],
    );
    let length = pooled.len() / BATCH;
    feed.push_f32("text_embeds", pooled, &[BATCH, length]);
    let (height, width) = (LATENT[1] as f32 * 8.0, LATENT[2] as f32 * 8.0);
    let ids = [height, width, 0.0, 0.0, height, width].repeat(BATCH);
    feed.push_f32("time_ids", ids, &[BATCH, 6]);
    let file = tensors(&world.dir().join("trace/step-00001.safetensors"));
    for name in step.factors() {
        let before = format!("lora.before.{name}");
        let shape: Vec<usize> = file[&before].shape.iter().map(|&n| n as usize).collect();
        feed.push_f32(name, f32s(&before), &shape);
    }
    let outputs = session.run(&feed).unwrap();
    let doubles = |name: &str| -> Vec<f64> {
        let values = outputs.f32_vec(name).unwrap();
        values.into_iter().map(f64::from).collect()
    };
    close("mse", step.get("mse"), &doubles("mse"), NETWORK);
    close("ref_mse", step.get("ref_mse"), &doubles("ref_mse"), NETWORK);
    let c = step.get("weight");
    for name in step.factors() {
        let grads = doubles(&format!("grad.{name}"));
        let n = grads.len() / BATCH;
        let sum: Vec<f64> = (0..n)
            .map(|k| (0..BATCH).map(|i| c[i] * grads[i * n + k]).sum())
            .collect();
        close(name, step.get(&format!("grad.{name}")), &sum, NETWORK);
    }
}

/// Runs a few steps of a loss and computes them again.
fn check(kind: &str, beta: f64, alpha: f64, clip: f64) {
    let world = World::new();
    let trace = world.dir().join("trace");
    world.trained(
        &[
            &[
                "--loss",
                kind,
                "--set-size",
                "3",
                "--beta",
                &beta.to_string(),
                "--alpha",
                &alpha.to_string(),
            ][..],
            &[
                "--steps",
                &STEPS.to_string(),
                "--batch",
                &(BATCH / 2).to_string(),
                "--micro-batch",
                "4",
            ],
            &["--warmup", &WARMUP.to_string(), "--lr", &LR.to_string()],
            &[
                "--grad-clip",
                &clip.to_string(),
                "--trace",
                trace.to_str().unwrap(),
            ],
        ]
        .concat(),
    );
    let dataset = Dataset::open(world.data()).unwrap();
    let lines = log(&world.out().join("log.jsonl"));
    let mut adamw = AdamW::default();
    let mut last: Option<Step> = None;
    for n in 1..=STEPS {
        let step = Step::open(&trace, n);
        let line = &lines[n - 1];
        check_diffusion(&step, &dataset);
        check_network(&step, &world, &dataset);

        let (mse, reference) = (step.get("mse"), step.get("ref_mse"));
        if n <= 2 {
            // B is zero at first, and still at the second step: the first one's rate is 0.
            assert_eq!(mse, reference, "step {n}");
            assert_eq!(line["margin"], 0.0);
            assert_eq!(line["reward_accuracy"], 0.5);
        } else {
            assert_ne!(mse, reference, "step {n}");
        }
        let (expected, mu, c) = loss(kind, beta, alpha, mse, reference);
        close("loss", &[step.scalar("loss")], &[expected], ROUNDING);
        close("weight", step.get("weight"), &c, ROUNDING);
        assert!((step.scalar("mu") - mu).abs() <= ROUNDING * mu.abs(), "mu");
        assert!((line["loss"].as_f64().unwrap() - expected).abs() <= 1e-12 * expected.abs());

        let squares = step
            .factors()
            .into_iter()
            .flat_map(|f| step.get(&format!("grad.{f}")));
        let norm = squares.map(|g| g * g).sum::<f64>().sqrt();
        close("grad_norm", &[step.scalar("grad_norm")], &[norm], ROUNDING);
        let lr = LR * ((n - 1) as f64 / WARMUP).min(1.0);
        close("lr", &[step.scalar("lr")], &[lr], ROUNDING);
        let factor = if clip > 0.0 {
            (clip / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        for name in step.factors() {
            let before = step.get(&format!("lora.before.{name}"));
            let grad = step.get(&format!("grad.{name}"));
            let grad: Vec<f64> = grad.iter().map(|g| factor * g).collect();
            let after = adamw.step(n as i32, lr, name, before, &grad);
            close(
                name,
                step.get(&format!("lora.after.{name}")),
                &after,
                FEW_ROUNDINGS,
            );
            if let Some(last) = &last {
                assert_eq!(before, last.get(&format!("lora.after.{name}")), "{name}");
            }
        }
        last = Some(step);
    }
    // What the run ends with is what the last step left, without the graph's third rank.
    let last = last.unwrap();
    let result = tensors(&world.out().join("pytorch_lora_weights.safetensors"));
    for name in last.factors() {
        let written: Vec<f32> = result[&format!("unet.{name}")].read_f32().unwrap();
        let full = last.get(&format!("lora.after.{name}"));
        let kept: Vec<f64> = if name.contains("lora_A") {
            full[..full.len() / 3 * 2].to_vec()
        } else {
            full.chunks(3).flat_map(|row| &row[..2]).copied().collect()
        };
        assert!(written.iter().map(|&x| f64::from(x)).eq(kept), "{name}");
        let rest = if name.contains("lora_A") {
            full[full.len() / 3 * 2..].to_vec()
        } else {
            full.chunks(3).map(|row| row[2]).collect()
        };
        assert!(
            rest.iter().all(|&x| x == 0.0),
            "rank 3 of {name} was trained"
        );
    }
}

#[test]
fn popalign() {
    check("popalign", 400.0, 0.5, 0.05);
}

#[test]
fn popalign_with_an_uneven_offset_and_no_clipping() {
    check("popalign", 2000.0, 0.25, 0.0);
}

#[test]
fn dpo() {
    check("dpo", 400.0, 0.5, 0.05);
}

#[test]
fn set() {
    check("set", 300.0, 0.5, 0.05);
}

#[test]
fn sft() {
    check("sft", 400.0, 0.5, 1e-3);
}

/// `--preserve` adds pictures under their own captions; time steps stay within their range.
#[test]
fn preserved_pictures_follow_the_pairs() {
    let world = World::new();
    let trace = world.dir().join("trace");
    world.trained(&[
        "--steps",
        "3",
        "--batch",
        "3",
        "--preserve",
        "0.5",
        "--min-timestep",
        "700",
        "--max-timestep",
        "720",
        "--trace",
        trace.to_str().unwrap(),
    ]);
    let dataset = Dataset::open(world.data()).unwrap();
    let specific: Vec<i64> = (dataset.rows().iter())
        .filter(|row| !row.axes.is_empty())
        .map(|row| i64::from(row.prompt_id))
        .collect();
    for n in 1..=3 {
        let step = Step::open(&trace, n);
        assert_eq!(step.integers["label"], [1, 0, 1, 0, 1, 0, -1, -1]);
        let captions = &step.integers["caption_id"];
        assert!(captions[..6].iter().all(|id| !specific.contains(id)));
        assert!(captions[6..].iter().all(|id| specific.contains(id)));
        let timesteps = &step.integers["timestep"];
        assert!(
            timesteps.iter().all(|t| (700..720).contains(t)),
            "{timesteps:?}"
        );
    }
    // The reward is zero at first, so each term is ln 2.
    let first = &log(&world.out().join("log.jsonl"))[0];
    let (loss, preserve) = (
        first["loss"].as_f64().unwrap(),
        first["preserve"].as_f64().unwrap(),
    );
    assert!((preserve - std::f64::consts::LN_2).abs() < 1e-15);
    assert!((loss - 1.5 * std::f64::consts::LN_2).abs() < 1e-15);
}
