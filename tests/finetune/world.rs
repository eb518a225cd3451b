//! A tiny bundle, a data set that fits it, and the command that trains on both.
//!
//! Everything is drawn from addressed random numbers, so that the oracle (`scripts/oracle/finetune.py`)
//! and every machine see the same world.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use popalign::data::dataset::{self, Kind, LatentsRef, PictureRow};
use popalign::data::manifest::{DatasetManifest, Layout};
use popalign::data::writer::{DatasetWriter, Finish, latents_name};
use popalign::judge::reading::Readings;
use popalign::prompts::caption_id;
use popalign::random;
use popalign::random::Purpose;
use popalign::store::Store;
use popalign::tensors::{Tensor, Weights};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, succeeded};

/// The random model that most tests train: SDXL's kind, two layers per block.
pub(crate) const MODEL: &str = "sdxl_3";
/// Channels, height and width of its latents: not square, and small.
pub(crate) const LATENT: [usize; 3] = [4, 8, 6];
const TOKENS: usize = 5;
/// Pictures of each caption.
const PICTURES: u32 = 3;

/// A temporary folder with a bundle and a data set.
pub(crate) struct World {
    dir: TempDir,
    /// What training on its data set needs.
    options: &'static [&'static str],
    /// Whether its data set has the empty caption's embeddings.
    empty: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(MODEL)
    }

    /// A world of one of the models under `fixtures/nets`.
    pub(crate) fn of(model: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = &[];
        let empty = true;
        let world = Self {
            dir,
            options,
            empty,
        };
        world.checkpoint(model);
        world.export(&["--lora-rank", "3"]);
        world.data_set(&|_, _| ());
        world
    }

    /// A world whose data set lacks the empty caption, as those of pa-datagen do.
    pub(crate) fn without_empty_caption() -> Self {
        let mut world = Self::new();
        world.empty = false;
        world.data_set(&|_, _| ());
        world
    }

    /// A world of the model that ships, which can draw: two subjects, drawn with few steps.
    pub(crate) fn demo() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // With so few steps no picture shows a person.
        let options = &["--unfiltered"];
        let empty = false;
        let world = Self {
            dir,
            options,
            empty,
        };
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        let export = process::pa_export()
            .arg(demo)
            .arg("-o")
            .arg(world.bundle())
            .args(["--lora-rank", "2"])
            .output()
            .unwrap();
        succeeded(&export);
        let prompts = world.dir().join("prompts.csv");
        fs::write(&prompts, "Prompt\ndoctor\nnurse\n").unwrap();
        let drawn = process::pa_datagen()
            .arg("--model")
            .arg(world.bundle())
            .arg("--prompts")
            .arg(prompts)
            .arg("--axes")
            .arg(world.bundle().join("axes.toml"))
            .arg("--out")
            .arg(world.data())
            .args(["--neutral", "2", "--specific", "1", "--format", "none"])
            .args(["--steps", "3", "--cfg", "2.5"])
            .output()
            .unwrap();
        succeeded(&drawn);
        world
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir().join("bundle")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Where runs go.
    pub(crate) fn out(&self) -> PathBuf {
        self.dir().join("out")
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir().join("model")
    }

    fn checkpoint(&self, model: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/nets")
            .join(model);
        let unet = self.source().join("unet");
        fs::create_dir_all(&unet).unwrap();
        for entry in fs::read_dir(from.join("unet")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, unet.join(path.file_name().unwrap())).unwrap();
        }
        fs::write(
            self.source().join("model_index.json"),
            r#"{"_class_name": "X"}"#,
        )
        .unwrap();
        let scheduler = json!({
            "_class_name": "EulerDiscreteScheduler",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
        });
        fs::create_dir(self.source().join("scheduler")).unwrap();
        fs::write(
            self.source().join("scheduler/scheduler_config.json"),
            scheduler.to_string(),
        )
        .unwrap();
    }

    /// Exports the bundle (again).
    pub(crate) fn export(&self, options: &[&str]) {
        let output = process::pa_export()
            .arg(self.source())
            .arg("-o")
            .arg(self.bundle())
            .args(options)
            .output()
            .unwrap();
        succeeded(&output);
    }

    /// Width of the model's text embeddings and length of the pooled one.
    fn widths(&self) -> (usize, Option<usize>) {
        let text = fs::read_to_string(self.source().join("unet/config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let number = |key: &str| config[key].as_u64().map(|n| n as usize);
        let pooled = number("projection_class_embeddings_input_dim")
            .map(|all| all - 6 * number("addition_time_embed_dim").unwrap());
        (number("cross_attention_dim").unwrap(), pooled)
    }

    /// Writes the data set (again): two subjects, a neutral caption and two specific ones each. Neutral
    /// pictures show men alone, so that no neutral set wins.
    /// `change` may alter each row and its latents.
    pub(crate) fn data_set(&self, change: &dyn Fn(&mut PictureRow, &mut [f32])) {
        let (width, pooled) = self.widths();
        self.data_set_of(LATENT, width, pooled, change);
    }

    /// The same with other sizes.
    pub(crate) fn data_set_of(
        &self,
        latent: [usize; 3],
        width: usize,
        pooled: Option<usize>,
        change: &dyn Fn(&mut PictureRow, &mut [f32]),
    ) {
        if self.data().exists() {
            fs::remove_dir_all(self.data()).unwrap();
        }
        let each = latent.iter().product();
        let mut rows = rows();
        let mut latents = Vec::new();
        for row in &mut rows {
            let mut own = numbers(Purpose::InitLatent, row.prompt_id, row.image_id, each);
            change(row, &mut own);
            latents.extend(own);
        }
        let ids: BTreeSet<u32> = rows
            .iter()
            .flat_map(|r| [caption_id(&r.prompt), caption_id(&r.neutral_prompt)])
            .chain(self.empty.then(|| caption_id("")))
            .collect();
        let ids: Vec<u32> = ids.into_iter().collect();
        let layout = Layout {
            width: latent[2] * 8,
            height: latent[1] * 8,
            latent,
            prompt_embeds: [TOKENS, width],
            pooled,
            captions: ids.len(),
            images: rows.len(),
            unit_images: rows.len(),
            size_conditions: None,
            ragged: false,
        };
        let manifest = DatasetManifest::new(serde_json::Map::new(), BTreeMap::new(), layout);
        let writer = DatasetWriter::open(Store::Folder(self.data()), manifest).unwrap();
        writer
            .write_text(&ids, |i| {
                let of = |number, n| numbers(Purpose::Guidance, ids[i], number, n);
                let embeds = of(0, TOKENS * width);
                Ok::<_, dataset::Error>((embeds, pooled.map(|n| of(1, n))))
            })
            .unwrap();
        writer.write_unit(0, &rows, &latents).unwrap();
        assert!(matches!(writer.finish().unwrap(), Finish::Complete(_)));
    }

    /// The command into [`World::out`], for a short run.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        self.command_into(&self.out(), options)
    }

    pub(crate) fn command_into(&self, out: &Path, options: &[&str]) -> Command {
        let mut command = process::pa_finetune();
        command
            .arg("--model")
            .arg(self.bundle())
            .arg("--data")
            .arg(self.data())
            .arg("--out")
            .arg(out)
            .args(["--lora", "2"])
            .args(self.options)
            .args(options);
        // The worlds' captions have made-up embeddings, the empty one none.
        if !options.contains(&"--caption-dropout") {
            command.args(["--caption-dropout", "0"]);
        }
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    /// Runs it, expecting success.
    #[track_caller]
    pub(crate) fn trained(&self, options: &[&str]) {
        succeeded(&self.run(options));
    }
}

fn rows() -> Vec<PictureRow> {
    let mut rows = Vec::new();
    for subject in ["doctor", "nurse"] {
        let neutral = format!("a photo of a {subject}");
        for value in [None, Some("female"), Some("male")] {
            for image_id in 0..PICTURES {
                let prompt = match value {
                    Some(value) => format!("a photo of a {value} {subject}"),
                    None => neutral.clone(),
                };
                rows.push(PictureRow {
                    file_name: None,
                    prompt_id: caption_id(&prompt),
                    prompt,
                    neutral_prompt: neutral.clone(),
                    subject: subject.to_owned(),
                    kind: match value {
                        Some(_) => Kind::Specific,
                        None => Kind::Neutral,
                    },
                    axes: value
                        .map(|value| ("gender".to_owned(), value.to_owned()))
                        .into_iter()
                        .collect(),
                    seed: 0,
                    image_id,
                    identity: BTreeMap::new(),
                    drawn_prompt: None,
                    latents: LatentsRef {
                        file: latents_name(0),
                        index: rows.len(),
                    },
                    sha256: None,
                    verdict: value.is_none().then(man),
                    dropped: None,
                });
            }
        }
    }
    rows
}

/// What a classifier says of a man.
fn man() -> Readings {
    let shares = BTreeMap::from([("female".to_owned(), 0.1), ("male".to_owned(), 0.9)]);
    BTreeMap::from([("gender".to_owned(), shares)])
}

fn numbers(purpose: Purpose, id: u32, number: u32, n: usize) -> Vec<f32> {
    let mut values = vec![0.0; n];
    random::normal(1, purpose, id, number, 0, &mut values);
    values
}

/// The tensors of a file, by name.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let file = Weights::open_files([path]).unwrap();
    file.iter().map(|t| (t.name.clone(), t.clone())).collect()
}

/// Every file below a folder with its bytes; `log.jsonl` without the times, which are the machine's,
/// and without TensorBoard's file, which has them too.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(dir)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let bytes = fs::read(&path).unwrap();
            if name == "log.jsonl" {
                let lines = log(&path);
                let text: Vec<String> = lines.iter().map(Value::to_string).collect();
                found.insert(name, text.join("\n").into_bytes());
            } else if !name.contains("tfevents") {
                found.insert(name, bytes);
            }
        }
    }
    found
}

/// The lines of a log without the times.
pub(crate) fn log(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for key in ["seconds", "runtime_seconds", "samples_per_second"] {
            assert!(value.as_object_mut().unwrap().remove(key).is_some());
        }
        value
    };
    text.lines().map(line).collect()
}
