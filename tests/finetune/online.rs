//! `--online`: rounds of the model's own pictures.
//!
//! The step is held to torch by a run on pictures that are made up, so that nothing depends on how a machine's
//! classifier rounds; the command is run on the demo model, which draws people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use popalign::align::online::{Artist, Drawn, Online, Rollout, Round, Studio};
use popalign::align::ranks::Alone;
use popalign::align::validation::{Inputs, Record};
use popalign::align::{
    Config, Environment, Finish, LossKind, Making, PairSource, Request, Result, run,
};
use popalign::base::Stop;
use popalign::bundle::Part;
use popalign::diffusion::guidance::Guidance;
use popalign::diffusion::pipeline::{Denoiser, Noised, Settings};
use popalign::diffusion::samplers::SamplerKind;
use popalign::diffusion::text::TextShape;
use popalign::lora::Fitted;
use popalign::prompts::caption_id;
use popalign::random;
use popalign::random::Purpose;
use popalign::runtime::SessionOptions;
use serde_json::{Value, json};

use crate::process::{self, failed, succeeded};
use crate::resume::until;
use crate::world::{LATENT, World, files, log};

/// Pictures of a made-up round: three of each of two captions.
const PICTURES: u32 = 3;

/// A studio whose pictures are made up; what it predicts is the network's.
#[derive(Debug, Default)]
struct MadeUp {
    /// Whether it draws nobody.
    nobody: bool,
    /// The factors of each round.
    rounds: Arc<Mutex<Vec<(Round, String)>>>,
}

#[derive(Debug)]
struct Maker {
    nobody: bool,
    denoiser: Denoiser,
    rounds: Arc<Mutex<Vec<(Round, String)>>>,
}

impl Studio for MadeUp {
    fn open(&self, inputs: &Inputs<'_>) -> Result<Box<dyn Artist>> {
        let session = inputs
            .bundle
            .session(inputs.runtime, Part::Unet, inputs.session)?;
        let layout = &inputs.pool.sets()[0].manifest().layout;
        let [tokens, width] = layout.prompt_embeds;
        let settings = Settings {
            seed: 0,
            sampler: SamplerKind::default().set_up(inputs.scheduler, 2)?,
            train_timesteps: inputs.scheduler.train_timesteps,
            guidance: Guidance::plain(1.0),
            latent: LATENT,
            text: TextShape {
                family: inputs.bundle.family().unwrap(),
                tokens,
                width,
                pooled: layout.pooled,
            },
            time_ids: inputs.pool.sets()[0].time_ids(),
            lora: None,
        };
        Ok(Box::new(Maker {
            nobody: self.nobody,
            denoiser: Denoiser::new(session, settings),
            rounds: Arc::clone(&self.rounds),
        }))
    }
}

impl Artist for Maker {
    fn facts(&self) -> &Value {
        &Value::Null
    }

    fn pictures(&self) -> usize {
        2 * PICTURES as usize
    }

    fn draw(&mut self, round: Round, lora: Fitted) -> Result<Option<Rollout>> {
        self.rounds.lock().unwrap().push((round, lora.sha256()));
        self.denoiser.set_lora(Arc::new(lora));
        let mut pictures = Vec::new();
        for subject in ["doctor", "nurse"] {
            let caption_id = caption_id(&format!("a photo of a {subject}"));
            for image_id in 0..PICTURES {
                let mut latents = vec![0.0; LATENT.iter().product()];
                let number = round.number;
                random::normal(
                    9,
                    Purpose::InitLatent,
                    caption_id,
                    image_id,
                    number,
                    &mut latents,
                );
                let share = [0.9, 0.6, 0.75][image_id as usize];
                pictures.push(Drawn {
                    caption_id,
                    image_id,
                    latents,
                    shares: vec![vec![share, 1.0 - share], vec![0.2, 0.3, 0.5]],
                });
            }
        }
        let record = Record {
            step: round.first,
            discrepancy: None,
            axes: Vec::new(),
            pictures: pictures.len(),
            kept: pictures.len(),
            dropped: BTreeMap::from([("no_face".to_owned(), 6)]),
        };
        if self.nobody {
            pictures.clear();
        }
        let targets = vec![vec![0.5; 2], vec![1.0 / 3.0; 3]];
        Ok(Some(Rollout {
            pictures,
            targets,
            record,
        }))
    }

    fn predict(&mut self, noised: &Noised<'_>) -> Result<Vec<f32>> {
        let n = noised.timesteps.len();
        let mut all = Vec::new();
        for i in 0..n {
            let row = |values: &'_ [f32]| i * (values.len() / n)..(i + 1) * (values.len() / n);
            let one = Noised {
                sample: &noised.sample[row(noised.sample)],
                timesteps: &noised.timesteps[i..=i],
                prompt_embeds: &noised.prompt_embeds[row(noised.prompt_embeds)],
                pooled: &noised.pooled[row(noised.pooled)],
            };
            all.extend(self.denoiser.predict(&one).unwrap());
        }
        Ok(all)
    }
}

const STEPS: u32 = 6;

/// A run of three rounds in a world of random numbers; gives what its rounds were drawn with.
pub(crate) fn made_up(world: &World, out: &Path, trace: &Path) -> Vec<(Round, String)> {
    let studio = MadeUp::default();
    let rounds = Arc::clone(&studio.rounds);
    trained(world, out, trace, studio).unwrap();
    let rounds = rounds.lock().unwrap();
    rounds.clone()
}

fn trained(world: &World, out: &Path, trace: &Path, studio: MadeUp) -> Result<Finish> {
    let request = Request {
        model: world.bundle(),
        data: vec![world.data()],
        out: out.to_path_buf(),
        pairs: PairSource::Online { axes: None },
        lora_from: None,
        validate: None,
        studio: Some(Arc::new(studio)),
        config: Config {
            loss: LossKind::online(),
            online: Some(Online {
                rounds: 3,
                pictures: PICTURES,
                captions: None,
                strength: 0.5,
            }),
            beta: 300.0,
            preserve: 0.4,
            rank: 2,
            caption_dropout: 0.0,
            batch: 2,
            lr: 2e-3,
            warmup: 2,
            steps: STEPS,
            seed: 5,
            ..Config::default()
        },
        environment: Environment {
            session: SessionOptions {
                threads: 1,
                ..SessionOptions::default()
            },
            making: Making::default(),
            micro_batch: Some(3),
            grad_memory: None,
            save_every: 100,
            keep: 1,
            resume: false,
            trace: Some(trace.to_path_buf()),
        },
    };
    run(&request, Box::new(Alone), &Stop::new(), &mut |_| ())
}

#[test]
fn a_round_in_which_nobody_is_seen_ends_the_run() {
    let world = World::new();
    let studio = MadeUp {
        nobody: true,
        ..MadeUp::default()
    };
    let error = trained(&world, &world.out(), &world.dir().join("trace"), studio).unwrap_err();
    let expected = "round 1: the chain saw nobody in any of its pictures (6 no_face), so there is nothing to train on";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn each_round_is_drawn_with_the_lora_as_it_stands() {
    let world = World::new();
    let found = made_up(&world, &world.out(), &world.dir().join("trace"));
    let numbers: Vec<u32> = found.iter().map(|(round, _)| round.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert!(
        found
            .iter()
            .all(|(round, _)| (round.first, round.length) == (2 * round.number, 2))
    );
    assert!(found[0].1 != found[1].1 && found[1].1 != found[2].1);
    // Nothing is said of pairs, for there are none.
    assert!(!world.out().join("pairs.jsonl").exists());
    let lines = log(&world.out().join("log.jsonl"));
    assert!(
        lines
            .iter()
            .all(|line| line["reward_accuracy"].is_null() && line["mu"].is_null())
    );
    let rounds = fs::read_to_string(world.out().join("rounds.jsonl")).unwrap();
    assert_eq!(rounds.lines().count(), 3);
}

/// A run on the demo model; its data set was drawn with too few steps to show anybody.
fn command(world: &World, out: &Path, options: &[&str]) -> Command {
    let mut command = process::pa_finetune();
    command.arg("--model").arg(world.bundle());
    command.arg("--data").arg(world.data());
    command.arg("--out").arg(out).args(["--lora", "2"]);
    command.args(["--online", "2", "--online-pictures", "3"]);
    command.args([
        "--batch",
        "2",
        "--lr",
        "1e-2",
        "--warmup",
        "0",
        "--threads",
        "1",
    ]);
    command.args(options);
    command
}

fn rounds(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

#[test]
fn killed_in_a_round_it_goes_on_as_if_it_had_not_been() {
    let world = World::demo();
    let options = [
        "--online-steps",
        "10",
        "--steps",
        "6",
        "--save-every",
        "2",
        "--ema",
        "0.5",
        "--preserve",
        "0.2",
        "--resume",
    ];
    let unbroken = world.dir().join("unbroken");
    succeeded(&command(&world, &unbroken, &options).output().unwrap());
    // In the middle of the second round, which began after three steps.
    let mut child = until(&mut command(&world, &world.out(), &options), "step", 5);
    child.kill().unwrap();
    child.wait().unwrap();
    succeeded(&command(&world, &world.out(), &options).output().unwrap());
    assert!(files(&world.out()) == files(&unbroken));

    let found = rounds(&unbroken);
    assert_eq!(found.len(), 2);
    for (round, first) in found.iter().zip([0, 3]) {
        assert_eq!(
            (&round["step"], &round["pictures"]),
            (&json!(first), &json!(6))
        );
        assert!(round["kept"].as_u64().unwrap() > 0);
    }
    let manifest: Value =
        serde_json::from_slice(&fs::read(unbroken.join("manifest.json")).unwrap()).unwrap();
    let config = &manifest["config"];
    assert_eq!(
        (&config["loss"], &config["online"]["rounds"]),
        (&json!("nft"), &json!(2))
    );
    assert_eq!(
        (&config["drawing"]["steps"], &config["drawing"]["cfg"]),
        (&json!(10), &json!(2.5))
    );
    let of_rounds = &manifest["outcome"]["sha256"]["rounds.jsonl"];
    assert_eq!(of_rounds.as_str().unwrap().len(), 64);
}

#[test]
fn captions_take_turns() {
    let world = World::demo();
    let options = [
        "--online-steps",
        "10",
        "--steps",
        "2",
        "--online-captions",
        "1",
    ];
    succeeded(&command(&world, &world.out(), &options).output().unwrap());
    let found = rounds(&world.out());
    assert!(
        found.iter().all(|round| round["pictures"] == json!(3)),
        "{found:?}"
    );
}

#[test]
fn what_it_cannot_be() {
    let world = World::demo();
    for (options, code, expected) in [
        (
            &["--steps", "3"][..],
            1,
            &["--steps 3", "a multiple of --online, 2"][..],
        ),
        (
            &["--steps", "2", "--loss", "dpo"],
            2,
            &["--online", "--loss"],
        ),
        (
            &["--steps", "2", "--caption-dropout", "0.1"],
            2,
            &["--caption-dropout"],
        ),
        (
            &["--steps", "2", "--online-strength", "0"],
            2,
            &["--online-strength"],
        ),
    ] {
        let output = command(&world, &world.out(), options).output().unwrap();
        failed(&output, code, expected);
        let _ = fs::remove_dir_all(world.out());
    }
    let mut alone = process::pa_finetune();
    alone
        .arg("--model")
        .arg(world.bundle())
        .arg("--data")
        .arg(world.data());
    alone
        .arg("--out")
        .arg(world.out())
        .args(["--online-captions", "2"]);
    failed(&alone.output().unwrap(), 2, &["--online"]);
}
