//! UCE's debiasing (Gandikota et al., arXiv 2308.14761) as a LoRA: a baseline to compare aligned LoRAs with.
//!
//!     cargo run --release --example uce -- --model out/bundle --data out/round-1 --out out/uce
//!     pa-datagen --model out/bundle --lora out/uce/pytorch_lora_weights.safetensors ... --out out/round-2
//!     cargo run --release --example uce -- --model out/bundle --data out/round-1 --data out/round-2 --out out/uce
//!
//! Each round draws neutral pictures under the edit so far and looks at them (`pa-datagen --filter`); the
//! next edit adds, for each neutral caption and each axis, what its shares lack of the target, as the authors'
//! rounds add up. A caption whose axis is within --max-diff of the target isn't moved any further on it.
//! The bundle must take LoRA on `to_k` and `to_v` of the rank that is written: as many as there are captions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use popalign::base::fsio;
use popalign::bundle::{Bundle, Part};
use popalign::cli::{self, Common, Outcome};
use popalign::data::dataset::{Dataset, Kind};
use popalign::diffusion::text::TextEncoders;
use popalign::diffusion::tokenizer::Tokenizer;
use popalign::family::checkpoint::Checkpoint;
use popalign::judge::reading::Meaning;
use popalign::lora::uce::{Concept, Edit};
use popalign::lora::{LoraAdapter, write_diffusers};
use popalign::prompts::axes::Axis;
use popalign::prompts::{self, Axes};
use popalign::runtime::{Runtime, SessionOptions, resolve};
use popalign::tensors::Weights;

/// Edit the cross-attention of a model towards the axes' target, in closed form
#[derive(Debug, Parser)]
struct Args {
    /// Bundle (pa-export)
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Data set of each round, in order (pa-datagen --axes --filter); the last under the edit so far
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// Folder to write pytorch_lora_weights.safetensors into
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Captions to preserve, a list as pa-datagen reads
    #[arg(long, value_name = "FILE")]
    preserve: Option<PathBuf>,
    /// How much edited captions count
    #[arg(long, default_value_t = 1.0)]
    edit_scale: f64,
    /// How much preserved captions count
    #[arg(long, default_value_t = 1.0)]
    preserve_scale: f64,
    /// λ: how much the old weights count
    #[arg(long, default_value_t = 0.5)]
    lambda: f64,
    /// Shares this near to the target are left alone
    #[arg(long, default_value_t = 0.05)]
    max_diff: f64,
    #[command(flatten)]
    common: Common,
}

/// Per caption and per text of a value how far it is moved.
type Directions = BTreeMap<String, BTreeMap<String, f64>>;

fn main() -> ExitCode {
    let args = Args::parse();
    cli::main(move |_| run(&args))
}

fn run(args: &Args) -> Result<Outcome> {
    let positive = |x: f64| x > 0.0 && x.is_finite();
    if ![args.edit_scale, args.preserve_scale, args.lambda]
        .into_iter()
        .all(positive)
    {
        bail!("--edit-scale, --preserve-scale and --lambda: expected numbers above 0");
    }
    let directions = directions(args)?;
    let largest = directions.values().flat_map(BTreeMap::values);
    let largest = largest.fold(0.0f64, |most, d| most.max(d.abs()));
    if largest == 0.0 {
        bail!("every caption is within --max-diff of the target: there is nothing to edit");
    }
    let concepts = concepts(args, &directions)?;
    let edit = Edit::new(&concepts, args.lambda);
    let mut adapter = LoraAdapter::default();
    let bundle = Bundle::open(&args.model)?;
    for tensor in unet(&bundle)?.iter() {
        let module = tensor.name.trim_end_matches(".weight");
        if module.ends_with("attn2.to_k") || module.ends_with("attn2.to_v") {
            adapter
                .modules
                .insert(module.to_owned(), edit.factors(&tensor.read_f32()?));
        }
    }
    fsio::create_dir_all(&args.out)?;
    let path = args.out.join("pytorch_lora_weights.safetensors");
    write_diffusers(&path, &adapter)?;
    let (layers, rank) = (adapter.modules.len(), edit.rank());
    tracing::info!(
        "{}: {layers} layers, rank {rank}, moved by up to {largest:.2}",
        path.display()
    );
    Ok(Outcome::Done)
}

/// What each caption's shares lacked of the target, added up over the rounds.
fn directions(args: &Args) -> Result<Directions> {
    let mut all = Directions::new();
    for dir in &args.data {
        let set = Dataset::open(dir)?;
        let axes = set.axes()?;
        let axes = axes.with_context(|| format!("{} was drawn without --axes", dir.display()))?;
        let axes = Axes::load(&axes)?;
        for axis in axes.named() {
            for (caption, lacks) in lacking(&set, axis, args.max_diff) {
                let moved = all.entry(caption).or_default();
                for (text, lack) in axis.edits.iter().zip(lacks) {
                    *moved.entry(text.clone()).or_default() += lack;
                }
            }
        }
    }
    Ok(all)
}

/// Per neutral caption what its kept pictures' shares lack of an axis' target.
fn lacking(set: &Dataset, axis: &Axis, max_diff: f64) -> BTreeMap<String, Vec<f64>> {
    let meaning = Meaning::of(axis);
    let mut counts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (_, row) in set.kept().filter(|(_, row)| row.kind == Kind::Neutral) {
        let standing = row
            .verdict
            .as_ref()
            .and_then(|seen| meaning.read(seen).ok());
        if let Some(standing) = standing {
            let own = counts.entry(row.prompt.clone());
            own.or_insert_with(|| vec![0.0; axis.values.len()])[standing.dominant] += 1.0;
        }
    }
    let lack = |(caption, counts): (String, Vec<f64>)| {
        let seen: f64 = counts.iter().sum();
        let shares = counts.iter().map(|count| count / seen);
        let lacks: Vec<f64> = axis.target.iter().zip(shares).map(|(t, s)| t - s).collect();
        let near = lacks.iter().all(|lack| lack.abs() < max_diff);
        (caption, if near { vec![0.0; lacks.len()] } else { lacks })
    };
    counts.into_iter().map(lack).collect()
}

/// The edited and the preserved captions' last tokens, and where they are moved.
fn concepts(args: &Args, directions: &Directions) -> Result<Vec<Concept>> {
    let bundle = Bundle::open(&args.model)?;
    let runtime = Runtime::load()?;
    let options = SessionOptions::from(&args.common);
    let ep = resolve(&runtime, &options)?;
    let options = SessionOptions { ep, ..options };
    let mut encoders = TextEncoders::open(&bundle, &runtime, &options)?;
    let shape = encoders.shape();
    // The authors count tokens by the first tokenizer.
    let slot = shape.family.descriptor().encoders[0].slot;
    let tokenizer = Tokenizer::open(&bundle.dir().join(slot.tokenizer()), shape.tokens)?;
    let mut key = |caption: &str| -> Result<Vec<f32>> {
        let last = tokenizer.encode(caption)?.last;
        let all = encoders.encode(caption)?.prompt_embeds;
        Ok(all[last * shape.width..(last + 1) * shape.width].to_vec())
    };
    let mut concepts = Vec::new();
    for (caption, towards) in directions {
        let mut moved = vec![0.0f32; shape.width];
        for (text, &lack) in towards {
            let other = key(text)?;
            moved
                .iter_mut()
                .zip(other)
                .for_each(|(m, c)| *m += lack as f32 * c);
        }
        concepts.push(Concept {
            key: key(caption)?,
            moved: Some(moved),
            scale: args.edit_scale,
        });
    }
    let preserved = args.preserve.as_deref().map(prompts::read).transpose()?;
    for caption in preserved.into_iter().flat_map(|list| list.texts) {
        concepts.push(Concept {
            key: key(&caption)?,
            moved: None,
            scale: args.preserve_scale,
        });
    }
    Ok(concepts)
}

/// The UNet's weights by diffusers' names, from the files that its graph points into.
fn unet(bundle: &Bundle) -> Result<Weights> {
    let files = bundle
        .weight_files(Part::Unet)?
        .flat_map(|file| file.links.first());
    let paths: Vec<PathBuf> = files.map(|link| bundle.dir().join(&link.path)).collect();
    let tensors = |path: &&PathBuf| path.extension().is_some_and(|e| e == "safetensors");
    let paths: Vec<&PathBuf> = paths.iter().filter(tensors).collect();
    let weights = Weights::open_files(&paths)?;
    if weights
        .iter()
        .any(|tensor| tensor.name.ends_with("attn2.to_k.weight"))
    {
        return Ok(weights);
    }
    let file = paths
        .first()
        .context("the bundle's UNet has no weight file")?;
    Ok(Checkpoint::open(file)?.weights("unet")?)
}
