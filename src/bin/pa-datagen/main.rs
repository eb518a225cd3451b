//! `pa-datagen`: draws the pictures that training and scoring look at.

mod foreseen;
mod shown;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use popalign::base::Stop;
use popalign::bundle::Target;
use popalign::cli::{self, Common, Outcome};
use popalign::datagen::config::{BATCHES, FACTORS, LIMITS, PICTURES, SCALES, STEPS};
use popalign::datagen::steering::RESCALES;
use popalign::datagen::{
    Crop, Format, GuidanceKind, Rejected, Request, Sharing, Size, Steering, UNIT, Until, estimate,
    run, write_graphs,
};
use popalign::diffusion::fair_pca::FairPcaNumbers;
use popalign::diffusion::guidance::{Annealing, Compat, Edits, Interval};
use popalign::diffusion::samplers::SamplerKind;
use popalign::runtime::SessionOptions;
use popalign::store::Place;

use foreseen::foreseen;
use shown::Shown;

/// Draw a data set: pictures, latents and text embeddings for a list of prompts
#[derive(Debug, Parser)]
#[command(
    version,
    allow_negative_numbers = true,
    after_help = "Example: pa-datagen --model out/demo --prompts models/demo/prompts/train.csv \
        --axes out/demo/axes.toml --filter out/demo/chain.toml --out out/train",
    after_long_help = "Examples:\n  \
        pa-datagen --model out/demo --prompts models/demo/prompts/train.csv \
        --axes out/demo/axes.toml --filter out/demo/chain.toml --out out/train\n  \
        pa-datagen --model out/sdxl --prompts prompts.csv --axes models/faces/axes.toml --filter faces \
        --out out/train\n  \
        pa-datagen --model out/sdxl --prompts prompts.txt --neutral 8 --out out/plain\n  \
        pa-datagen --model out/demo --prompts models/demo/prompts/heldout.csv \
        --axes out/demo/axes.toml --seed 2 --out out/after \
        --lora out/lora/pytorch_lora_weights.safetensors\n  \
        pa-datagen ... --filter faces --until 100,10 --rejected delete   (as many as pass)\n  \
        pa-datagen ... --dry-run   (how many pictures, steps, bytes and hours)\n  \
        pa-datagen ... --shard 0/2 & pa-datagen ... --shard 1/2   (the same --out, or merged)\n  \
        srun -n 8 pa-datagen ... --shard env\n  \
        pa-datagen merge DIR... --out DIR   (shards with folders of their own)\n  \
        pa-datagen check DIR...             (hashes, holes, duplicates, strangers)\n  \
        pa-datagen tar DIR --out DIR        (for the Python package webdataset)\n\n\
        Writes images/, metadata.jsonl (one row per picture: prompt, axis values, seed, verdict, \
        why dropped), latents-*.safetensors, text.safetensors and manifest.json. Killed at any \
        moment, the same command goes on where it stopped and ends with the same bytes. It also makes \
        again what is missing or damaged in a finished data set. Captions over the text encoder's 77 \
        tokens are named with the words that are lost; one that loses the identity it names is refused."
)]
struct Args {
    /// Bundle (pa-export)
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Prompts: .csv or .tsv with a column `Prompt`, `prompt`, `text` or `caption` (the first of these
    /// that isn't blank counts), .json or .jsonl with texts or objects of these names, or .txt with one
    /// on each line
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Folder to write, or to go on with; or a URL as in s3://bucket/prefix, gs://bucket/prefix or
    /// az://container/prefix
    #[arg(long, value_name = "DIR", required_unless_present = "write_graph")]
    out: Option<Place>,
    /// Axes of the population and caption templates; without, prompts are captions as they stand
    #[arg(long, value_name = "FILE")]
    axes: Option<PathBuf>,
    /// Pictures per neutral caption
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = PICTURES)]
    neutral: u32,
    /// Pictures per identity-specific caption [default: 10]
    #[arg(long, value_name = "N", requires = "axes", value_parser = PICTURES)]
    specific: Option<u32>,
    /// Sampling steps
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = STEPS)]
    steps: usize,
    /// Sampler
    #[arg(long, value_enum, default_value_t = SamplerKind::default())]
    sampler: SamplerKind,
    #[command(flatten)]
    steering: SteeringArgs,
    /// Negative caption [default: none, as the model's own pipeline has it]
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// Size of the pictures in pixels [default: what the model was trained for]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// SDXL: the size it is told the pictures were scaled from [default: --size]
    #[arg(long, value_name = "WxH")]
    original_size: Option<Size>,
    /// SDXL: how far from the left and the top it is told that they were cut out [default: 0,0]
    #[arg(long, value_name = "X,Y")]
    crop: Option<Crop>,
    /// Pictures drawn at once [default: 8, or 4 large ones]; on the CPU it changes no bit
    #[arg(long, value_name = "N", value_parser = BATCHES)]
    batch: Option<usize>,
    /// LoRA file (PEFT, diffusers or kohya)
    #[arg(long, value_name = "F")]
    lora: Option<PathBuf>,
    /// Multiply the LoRA with this
    #[arg(long, value_name = "SCALE", default_value_t = 1.0, requires = "lora", value_parser = FACTORS)]
    lora_scale: f32,
    #[arg(long, value_name = "i/n", default_value = "0/1", help = format!(
        "Do only every n-th unit of {UNIT} pictures, from i (0 to n-1), or with --until the captions whose \
         hash says so; `env` takes both from mpirun or srun, and counts --device on by the machine's \
         ranks; whoever ends last joins them"
    ))]
    shard: Sharing,
    /// Sanity filter: a classifier chain (its name or manifest); what it can't tell, or tells to be
    /// another than the caption says, is marked as dropped
    #[arg(long, value_name = "CHAIN")]
    filter: Option<String>,
    /// Draw each caption until N pictures pass the filter, instead of --neutral and --specific; two
    /// numbers are for neutral and for specific captions
    #[arg(long, value_name = "N[,N]", value_parser = Until::parse, requires = "filter",
        conflicts_with_all = ["neutral", "specific"])]
    until: Option<[u32; 2]>,
    /// Of a caption draw at most so many times as many as are to pass
    #[arg(long, value_name = "TIMES", default_value_t = 4, value_parser = LIMITS, requires = "until")]
    until_limit: u32,
    /// What becomes of pictures that the filter drops
    #[arg(long, value_enum, default_value_t = Rejected::Keep, requires = "filter")]
    rejected: Rejected,
    /// How pictures are kept
    #[arg(long, value_enum, default_value_t = Format::Png)]
    format: Format,
    /// Write graphs made for this run's sizes, as DIR/unet/model.onnx … with links to their weights, and end
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dry_run", "metrics_file"])]
    write_graph: Option<PathBuf>,
    /// Operators of the graphs of --write-graph [default: what --ep has]
    #[arg(long, value_enum, requires = "write_graph")]
    target: Option<Target>,
    /// Say what it would take (pictures, steps, bytes, hours, by a few steps that are measured), and
    /// write nothing
    #[arg(long, conflicts_with = "metrics_file")]
    dry_run: bool,
    /// Keep the run's figures in this file, in Prometheus' text format (for node_exporter's textfile
    /// collector, which wants a name that ends in .prom)
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// How captions steer.
#[derive(Debug, clap::Args)]
struct SteeringArgs {
    /// Guidance scale; 1 or less for none
    #[arg(long, value_name = "SCALE", default_value_t = 5.0, value_parser = SCALES)]
    cfg: f32,
    /// Training-free method; those that draw identities need --axes
    #[arg(long, value_enum, default_value_t = GuidanceKind::Cfg)]
    guidance: GuidanceKind,
    /// How cads and dynamic-cfg fade captions in: nothing of them above time T2 (1 is noise), all
    /// below T1; cads: noise of scale S, rescaled to the share PSI [default: 0.6,0.9,0.25,1]
    #[arg(long, value_name = "T1,T2,S,PSI")]
    annealing: Option<Annealing>,
    /// Whose cads and dynamic-cfg [default: paper]
    #[arg(long, value_enum)]
    compat: Option<Compat>,
    /// How fair-diffusion edits: from step WARMUP on, times SCALE, only the share above THRESHOLD,
    /// with MOMENTUM of decay BETA [default: 5,4,0.95,0.5,0.6]
    #[arg(long, value_name = "WARMUP,SCALE,THRESHOLD,MOMENTUM,BETA")]
    edits: Option<Edits>,
    /// What fair-imagen keeps of embeddings (principal components), and how far it moves them
    /// [default: 600,0.6]
    #[arg(long, value_name = "COMPONENTS,NOISE")]
    fair_pca: Option<FairPcaNumbers>,
    /// Guide only from share LO of the steps to share HI [default: 0,1]
    #[arg(long, value_name = "LO,HI")]
    cfg_interval: Option<Interval>,
    /// Bring guided predictions back to the contrast of unguided ones by this share, 0 to 1; 0.7 for
    /// models of zero terminal SNR [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = RESCALES)]
    guidance_rescale: Option<f32>,
}

impl From<&SteeringArgs> for Steering {
    fn from(args: &SteeringArgs) -> Self {
        Self {
            kind: args.guidance,
            cfg: args.cfg,
            annealing: args.annealing,
            compat: args.compat,
            edits: args.edits,
            fair_pca: args.fair_pca,
            interval: args.cfg_interval,
            rescale: args.guidance_rescale,
        }
    }
}

impl Args {
    fn request(&self) -> Request {
        let mut session = SessionOptions::from(&self.common);
        session.device += self.shard.local as i32;
        Request {
            model: self.model.clone(),
            prompts: self.prompts.clone(),
            out: self.out.clone().unwrap_or_default(),
            axes: self.axes.clone(),
            neutral: self.neutral,
            specific: self.specific.unwrap_or(10),
            steps: self.steps,
            sampler: self.sampler,
            steering: Steering::from(&self.steering),
            negative: self.negative.clone(),
            size: self.size,
            original_size: self.original_size,
            crop: self.crop,
            batch: self.batch,
            lora: self.lora.clone(),
            lora_scale: self.lora_scale,
            until: self.until.map(|[neutral, specific]| Until {
                neutral,
                specific,
                limit: self.until_limit,
            }),
            rejected: self.rejected,
            shard: self.shard.shard,
            filter: self.filter.clone(),
            format: self.format,
            seed: self.common.seed,
            session,
        }
    }
}

fn main() -> ExitCode {
    if let Some(tool) = tools::named() {
        return cli::main(move |_| tool.run());
    }
    let args = Args::parse();
    cli::main(move |stop| generate(&args, stop))
}

fn generate(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    let request = args.request();
    if let Some(dir) = &args.write_graph {
        let written = write_graphs(&request, args.target, dir)?;
        cli::written(args.common.json, &written);
        return Ok(Outcome::Done);
    }
    if args.dry_run {
        return foreseen(&estimate(&request)?, args.common.json);
    }
    let metrics = args.metrics_file.clone();
    let mut shown = Shown::new(args.common.json, metrics, request.shard)?;
    let finish = run(&request, stop, &mut |event| shown.show(&event));
    shown.clear();
    Ok(shown.finish(&request.out, finish?))
}
