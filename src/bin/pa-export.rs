//! `pa-export`: turns a checkpoint into a bundle of ONNX graphs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use popalign::base::Stop;
use popalign::base::fsio::Linked;
use popalign::bundle::options::{BATCHES, SCORES};
use popalign::bundle::{
    self, Adapter, Bundle, Error, Event, Names, Options, Part, Planned, Target, Verified,
};
use popalign::cli::{self, Outcome, THREADS};
use popalign::datagen::Size;
use popalign::graph::DType;
use popalign::lora::{LoraSpec, RANKS};
use popalign::runtime::Runtime;
use serde_json::json;

/// Export a diffusion model to ONNX: graphs for inference and training, weights linked, not copied
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example: pa-export models/demo -o out/demo",
    after_long_help = "Examples:\n  \
        pa-export models/demo -o out/demo\n  \
        pa-export sdxl-base -o out/sdxl --lora-rank 16\n  \
        pa-export sdxl-base -o out/draw-only --no-grad --detached\n  \
        pa-export sd_xl_base_1.0.safetensors --base sdxl-base -o out/sdxl\n  \
        pa-export dpo-sdxl --base sdxl-base --variant fp16 -o out/dpo\n  \
        pa-export stabilityai/stable-diffusion-xl-base-1.0 --variant fp16 -o out/sdxl\n\n\
        What is no file or folder and looks like org/name is fetched from the Hugging Face hub into \
        its shared cache: only the files needed, going on where a connection broke. HF_HOME, \
        HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.\n\n\
        SRC is only read. Its weight files get a second name in the bundle: a reflink where the file \
        system has them (btrfs, XFS), else a hard link, or a copy if the bundle is on another file \
        system. The Python package onnx, and what loads models through it (polygraphy, Olive, onnxsim), \
        refuses hard links; with --copy it opens the bundle. --verify says which they are."
)]
struct Args {
    /// Model: a folder in diffusers' layout (model_index.json, unet/, vae/ …), the folder of a UNet
    /// alone, or a single-file checkpoint of SDXL or Stable Diffusion 1.x; or a hub id:
    /// org/name, org/name@revision, org/name/file.safetensors
    #[arg(required_unless_present_any = ["list", "verify"])]
    src: Option<PathBuf>,
    /// Folder to write; a bundle that is there is replaced
    #[arg(short, long, value_name = "BUNDLE", required_unless_present_any = ["list", "verify", "plan"])]
    out: Option<PathBuf>,
    /// Show what a bundle holds: parts, inputs, outputs, parameters, bytes
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["src", "out"])]
    list: Option<PathBuf>,
    /// Check every byte of a bundle and load every graph
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["src", "out", "list"])]
    verify: Option<PathBuf>,
    /// Adapter to merge (PEFT, diffusers or kohya), times a scale [default: 1]; may be repeated
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = adapter, requires = "merge")]
    lora: Vec<Adapter>,
    /// Add the adapters of --lora to the weights; the changed ones are written into the bundle
    #[arg(long, requires = "lora")]
    merge: bool,
    /// Parts to export, separated by commas [default: all that SRC has]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    parts: Option<Vec<Part>>,
    /// Type of activations, whatever the weights are stored in; classifiers and CLIP stay fp32
    #[arg(long, value_enum, default_value_t = Dtype::Fp32)]
    dtype: Dtype,
    /// Write weights of another type into the bundle, converted, instead of casting them at each load
    #[arg(long)]
    convert: bool,
    /// Operators to use
    #[arg(long, value_enum, default_value_t = Target::Plain)]
    target: Target,
    /// Rank of the LoRA inputs; adapters of lower rank fit too
    #[arg(long, value_name = "RANK", default_value_t = LoraSpec::default().rank,
        value_parser = RANKS)]
    lora_rank: u64,
    /// Linear layers that take LoRA, by the end of their name, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values_t = LoraSpec::default().targets)]
    lora_targets: Vec<String>,
    /// Model folder in diffusers' layout, or a hub id, that has what SRC lacks: the tokenizers of a
    /// single file, the other networks of a UNet
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Take weight files of this variant, as in model.fp16.safetensors [default: full precision,
    /// else fp16]
    #[arg(long, value_name = "NAME", value_parser = variant)]
    variant: Option<String>,
    /// Leave the training graph unet_grad out
    #[arg(long, conflicts_with = "parts")]
    no_grad: bool,
    /// Let unet_grad compute its blocks again for their gradient: much less memory, a third more time
    #[arg(long)]
    checkpointing: bool,
    /// Cut attention so that at --size and --batch no matrix of its scores takes more MiB than this;
    /// on a CPU 8 is fastest for large pictures
    #[arg(long, value_name = "MIB", value_parser = SCORES)]
    attention_memory: Option<u64>,
    /// Size of pictures to lay graphs out for; they run at others too [default: what the model was
    /// trained at]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Pictures at once to lay graphs out for [default: 1]
    #[arg(long, value_name = "N", value_parser = BATCHES)]
    batch: Option<u64>,
    /// Print what each graph takes in memory, by size and batch, and write nothing
    #[arg(long, conflicts_with_all = ["out", "list", "verify", "lora"])]
    plan: bool,
    /// Let the bundle outlive SRC: don't check later that SRC's weights are still there
    #[arg(long)]
    detached: bool,
    /// Give the bundle weight files of its own, one for each graph that needs them, which every tool
    /// opens; it then may outlive SRC, as with --detached
    #[arg(long, conflicts_with_all = ["list", "verify", "plan"])]
    copy: bool,
    /// Threads for hashing the weights [default: all cores]
    #[arg(long, value_name = "N", value_parser = THREADS)]
    threads: Option<usize>,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    /// Single precision
    Fp32,
    /// Half precision; softmax, norms' statistics, time embeddings, losses and a VAE that needs it
    /// (force_upcast in its config.json, as the stock SDXL's) stay in fp32
    Fp16,
    /// bfloat16: the same range as fp32, for CUDA and TensorRT (ONNX Runtime's CPU provider has no
    /// kernels for it)
    Bf16,
}

/// A variant is part of file names.
fn variant(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a variant is a word such as fp16".to_owned()),
    }
}

/// A file, or a file and a number after the last colon.
fn adapter(text: &str) -> Result<Adapter, String> {
    let whole = Adapter {
        file: text.into(),
        scale: 1.0,
    };
    if whole.file.exists() {
        return Ok(whole);
    }
    match text.rsplit_once(':').map(|(f, n)| (f, n.parse::<f32>())) {
        Some((file, Ok(scale))) if scale.is_finite() => Ok(Adapter {
            file: file.into(),
            scale,
        }),
        _ => Ok(whole),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::main(move |stop| run(&args, stop))
}

fn run(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    match (&args.list, &args.verify, &args.src, &args.out) {
        (Some(bundle), ..) => list(bundle, args.json),
        (_, Some(bundle), ..) => verify(bundle, args.json),
        (_, _, Some(src), _) if args.plan => plan(args, src, stop),
        (_, _, Some(src), Some(out)) => write(args, src, out, stop),
        _ => anyhow::bail!("SRC and --out are needed"),
    }
}

/// Shows what a bundle holds.
fn list(dir: &Path, json: bool) -> anyhow::Result<Outcome> {
    use std::fmt::Write;
    let bundle = Bundle::open(dir)?;
    if json {
        let config = bundle.config();
        cli::event(
            json,
            &json!({"event": "list", "parts": config.parts, "weights": config.weights}),
        );
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for (part, info) in &bundle.config().parts {
        writeln!(
            text,
            "{part}: {} parameters, {} operations in {}, {} bytes",
            info.parameters,
            info.operations,
            info.dtype.short_name(),
            info.bytes
        )?;
        for (what, ports) in [("in ", &info.inputs), ("out", &info.outputs)] {
            for port in ports {
                let dims: Vec<String> = port
                    .shape
                    .iter()
                    .map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned))
                    .collect();
                let dtype = serde_json::to_value(port.dtype)?;
                let dtype = dtype.as_str().unwrap_or_default();
                writeln!(text, "  {what} {} {dtype} [{}]", port.name, dims.join(", "))?;
            }
        }
    }
    if let Ok(lora) = bundle.lora() {
        let (count, rank) = (lora.modules.len(), lora.rank);
        writeln!(text, "LoRA inputs of rank {rank} on {count} layers")?;
    }
    for weights in &bundle.config().weights {
        let name = weights.links.first().map_or("", |l| l.path.as_str());
        writeln!(
            text,
            "{name}: {} bytes, {} names",
            weights.bytes,
            weights.links.len()
        )?;
    }
    // A reader that has gone away (`| head`) is no failure.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(Outcome::Done)
}

/// Checks a bundle to the last byte.
fn verify(dir: &Path, json: bool) -> anyhow::Result<Outcome> {
    let bundle = Bundle::open(dir)?;
    let mut hard = false;
    let mut report = |found: Verified<'_>| {
        let (what, name) = match found {
            Verified::Weights(name, stands) => {
                hard |= stands == Linked::Hard;
                let (key, text) = standing(stands);
                tracing::info!("{name}: unchanged, {text}");
                let event = json!({"event": "unchanged", "name": name, "stands": key});
                return cli::event(json, &event);
            }
            Verified::NotLoaded(part, why) => {
                tracing::warn!("{part}: not loaded, the CPU has no kernels for {why}");
                let event = json!({"event": "not_loaded", "name": part.name(), "why": why});
                return cli::event(json, &event);
            }
            Verified::File(name) => ("unchanged", name),
            Verified::Graph(part) => ("valid", part.name()),
            Verified::Loaded(part) => ("loaded", part.name()),
        };
        tracing::info!("{name}: {what}");
        cli::event(json, &json!({"event": what, "name": name}));
    };
    bundle.verify(&mut report)?;
    let runtime = Runtime::load()?;
    bundle.verify_loads(&runtime, &mut report)?;
    if hard {
        tracing::info!("{HARD_LINKS}");
    }
    tracing::info!("{}: whole", dir.display());
    cli::event(json, &json!({"event": "done", "bundle": dir}));
    Ok(Outcome::Done)
}

/// What hard links are no good for.
const HARD_LINKS: &str = "the Python package onnx (1.21 and newer) refuses weights that are hard links, and so does what \
    loads models through it (polygraphy, Olive, onnxsim); ONNX Runtime doesn't. pa-export --copy makes \
    files that every tool opens";

/// How a weight file stands in a bundle, for machines and for people.
fn standing(linked: Linked) -> (&'static str, &'static str) {
    match linked {
        Linked::Hard => ("hard_link", "a hard link"),
        Linked::Reflink => ("reflink", "a reflink"),
        Linked::Copied => ("file", "a file of its own"),
    }
}

/// Prints what graphs take in memory.
fn plan(args: &Args, src: &Path, stop: &Stop) -> anyhow::Result<Outcome> {
    use std::fmt::Write;
    let mut text = String::new();
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    for estimate in bundle::plan(src, &options(args)?, stop, &mut watch(args.json))? {
        let [width, height] = estimate.size;
        let (part, batch, memory) = (estimate.part, estimate.batch, estimate.memory);
        if args.json {
            let event = json!({"event": "plan", "part": part, "width": width, "height": height,
                "batch": batch, "weights": memory.weights, "activations": memory.activations,
                "largest": memory.largest});
            cli::event(true, &event);
            continue;
        }
        let (weights, activations) = (mib(memory.weights), mib(memory.activations));
        let (total, largest) = (weights + activations, mib(memory.largest));
        writeln!(
            text,
            "{:<16} {width:>5}x{height:<5} batch {batch:<3} {total:>8} MiB: weights {weights}, \
             activations {activations}, largest {largest}",
            part.name()
        )?;
    }
    // A reader that has gone away (`| head`) is no failure.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(Outcome::Done)
}

/// What the options ask for.
fn options(args: &Args) -> Result<Options, Error> {
    Ok(Options {
        parts: args.parts.clone(),
        grad: !args.no_grad,
        dtype: match args.dtype {
            Dtype::Fp32 => DType::F32,
            Dtype::Fp16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        },
        target: args.target,
        convert: args.convert,
        lora: LoraSpec {
            rank: args.lora_rank,
            targets: args.lora_targets.clone(),
        },
        detached: args.detached,
        copy: args.copy,
        base: args.base.clone(),
        variant: args.variant.clone(),
        merge: args.lora.clone(),
        checkpointing: args.checkpointing,
        score_limit: args.attention_memory.map(|mib| mib << 20),
        plan: Planned {
            batch: args.batch,
            size: args.size.map(|s| [s.width as u64, s.height as u64]),
        },
    })
}

/// Exports a checkpoint.
fn write(args: &Args, src: &Path, out: &Path, stop: &Stop) -> anyhow::Result<Outcome> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global()?;
    }
    let options = options(args)?;
    let start = std::time::Instant::now();
    let result = bundle::export(src, out, &options, stop, &mut watch(args.json));
    let manifest = match result {
        Err(Error::Interrupted) => return Ok(Outcome::Interrupted),
        result => result?,
    };
    let seconds = start.elapsed().as_secs_f64();
    tracing::info!(
        "{}: {} parts in {seconds:.1} s",
        out.display(),
        manifest.parts.len()
    );
    let parts: Vec<&str> = manifest.parts.keys().map(|p| p.name()).collect();
    cli::event(
        args.json,
        &json!({"event": "done", "bundle": out, "parts": parts, "seconds": seconds}),
    );
    Ok(Outcome::Done)
}

/// Reports events.
fn watch(json: bool) -> impl FnMut(Event<'_>) {
    let mut fetching = Fetching::default();
    move |event| match event {
        Event::Fetching {
            repo,
            file,
            bytes,
            total,
        } => fetching.report(json, [repo, file], bytes, total),
        event => report(json, &event),
    }
}

/// Shows how far downloads are: a bar for each large file on a terminal, a line when a file is
/// whole, an event each second.
#[derive(Default)]
struct Fetching {
    bar: Option<(String, indicatif::ProgressBar)>,
    event: Option<std::time::Instant>,
}

impl Fetching {
    fn report(&mut self, json: bool, [repo, file]: [&str; 2], bytes: u64, total: u64) {
        const BAR: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let whole = bytes == total;
        let second = std::time::Duration::from_secs(1);
        if whole || self.event.is_none_or(|last| last.elapsed() >= second) {
            self.event = Some(std::time::Instant::now());
            cli::event(
                json,
                &json!({"event": "fetching", "repo": repo, "file": file, "bytes": bytes,
                    "total": total}),
            );
        }
        if self.bar.as_ref().is_none_or(|(of, _)| of != file) {
            let bar = cli::progress(BAR).with_message(file.to_owned());
            bar.set_length(total);
            // What was there before this run is not part of its rate.
            bar.set_position(bytes);
            bar.reset_eta();
            self.bar = Some((file.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(bytes);
            if whole {
                bar.finish_and_clear();
                tracing::info!("fetched {file} of {repo}, {:.1} MB", total as f64 / 1e6);
            }
        }
    }
}

/// Says what has happened, in the log and as an event.
fn report(json: bool, event: &Event<'_>) {
    match event {
        // [`Fetching`] shows these.
        Event::Fetching { .. } => {}
        Event::Part { part, info, time } => {
            let (operations, parameters) = (info.operations, info.parameters);
            let seconds = time.as_secs_f64();
            let dtype = info.dtype.short_name();
            let size = info.bytes as f64 / 1e6;
            tracing::info!(
                "{part}: {operations} operations over {parameters} parameters in {dtype}, \
                 {size:.1} MB, {seconds:.2} s"
            );
            cli::event(
                json,
                &json!({"event": "part", "part": part, "operations": operations,
                    "parameters": parameters, "dtype": info.dtype, "bytes": info.bytes,
                    "seconds": seconds}),
            );
        }
        Event::Converted { file, converted } => {
            let (tensors, dtype) = (converted.tensors, converted.dtype.short_name());
            tracing::info!("{}: {tensors} tensors written as {dtype}", converted.file);
            cli::event(
                json,
                &json!({"event": "converted", "file": file, "tensors": tensors, "dtype": dtype}),
            );
        }
        Event::Copied { source, bytes } => {
            let size = *bytes as f64 / 1e6;
            tracing::warn!(
                "{} is on another file system: copied {size:.0} MB instead of linking them",
                source.display()
            );
            cli::event(
                json,
                &json!({"event": "copied", "source": source, "bytes": bytes}),
            );
        }
        Event::Linked(names) => {
            let Names {
                hard,
                reflinks,
                own,
            } = names;
            tracing::info!("weights: {hard} hard links, {reflinks} reflinks, {own} files");
            if *hard > 0 {
                tracing::info!("{HARD_LINKS}");
            }
            cli::event(
                json,
                &json!({"event": "linked", "hard_links": hard, "reflinks": reflinks, "files": own}),
            );
        }
        Event::Unused { origin, names } => {
            let (count, first) = (names.len(), names.first().copied().unwrap_or_default());
            tracing::warn!(
                "{}: {count} tensors are not part of the exported network, the first is `{first}`",
                origin.display()
            );
            cli::event(
                json,
                &json!({"event": "unused", "origin": origin, "tensors": names}),
            );
        }
    }
}
