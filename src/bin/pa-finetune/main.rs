//! `pa-finetune`: trains a LoRA on preference pairs.

mod shown;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use popalign::align::config::{self, Dropped, LoraInit};
use popalign::align::losses;
use popalign::align::online::{self, Online};
use popalign::align::optimizer::Optimizer;
use popalign::align::ranks::{Alone, Ranks};
use popalign::align::schedule::LrSchedule;
use popalign::align::timesteps::{self, Sampling, Timesteps};
use popalign::align::validation::Validation;
use popalign::align::{
    self, Config, Environment, Event, Finish, LossKind, Making, PairSource, Request, run,
};
use popalign::base::{Stop, launcher};
use popalign::bundle::Target;
use popalign::bundle::options::SCORES;
use popalign::cli::{self, Common, Outcome};
use popalign::runtime::SessionOptions;
use popalign::studio::request;
use popalign::studio::{self, Asked, Rounds};
use shown::Shown;

/// Align a diffusion model's populations: train a LoRA on preference pairs
#[derive(Debug, Parser)]
#[command(
    version,
    allow_negative_numbers = true,
    after_help = "Example: pa-finetune --model out/demo --data out/train --out out/lora",
    after_long_help = "Examples:\n  \
        pa-finetune --model out/demo --data out/train --out out/lora --resume\n  \
        pa-finetune --model out/sdxl --data out/train --out out/lora --micro-batch 1 --lr 1e-5\n  \
        pa-finetune --model out/demo --data out/train --out out/dpo --loss dpo --beta 2000\n\n\
        Writes pytorch_lora_weights.safetensors (diffusers), kohya_lora_weights.safetensors \
        (kohya, ComfyUI), log.jsonl, TensorBoard events, validation.jsonl (with --validate), pairs.jsonl, manifest.json and \
        checkpoints/. Killed or interrupted, the same command with --resume goes on from the \
        newest complete checkpoint, bit for bit."
)]
struct Args {
    /// Bundle with a training graph (pa-export)
    #[arg(long, value_name = "BUNDLE")]
    model: PathBuf,
    /// Data set of identity-specific and neutral pictures (pa-datagen); given several times, sets
    /// of one model, whose pictures may have different sizes
    #[arg(long, value_name = "DIR", required = true)]
    data: Vec<PathBuf>,
    /// Folder to write
    #[arg(long, value_name = "DIR", required_unless_present = "write_graph")]
    out: Option<PathBuf>,
    /// Rank of the LoRA, up to the bundle's
    #[arg(long, value_name = "RANK", default_value_t = Config::default().rank, value_parser = config::RANKS)]
    lora: usize,
    /// How the LoRA starts
    #[arg(long, value_enum, default_value_t = Config::default().init)]
    lora_init: LoraInit,
    /// LoRA to go on from (file or folder, any format): a further round, on pictures drawn with it; the
    /// reference stays the model without one
    #[arg(long, value_name = "LORA")]
    lora_from: Option<PathBuf>,
    /// The LoRA's product counts A / rank, in training and in the files [default: the rank]
    #[arg(long, value_name = "A", value_parser = config::LORA_ALPHAS)]
    lora_alpha: Option<f64>,
    /// What to minimise
    #[arg(long, value_enum, default_value_t = Config::default().loss)]
    loss: LossKind,
    /// Strength of the implied divergence penalty: higher stays closer to the model
    #[arg(long, default_value_t = Config::default().beta, value_parser = losses::BETAS)]
    beta: f64,
    /// Weight of the winners' mean in the offset of the PopAlign loss
    #[arg(long, default_value_t = Config::default().alpha, value_parser = losses::popalign::ALPHAS)]
    alpha: f64,
    /// Weight of keeping what captions draw that name an identity, and subjects without pairs: each
    /// step then takes a quarter more of their pictures, under their own captions; 0 for none
    #[arg(long, value_name = "W", default_value_t = Config::default().preserve, value_parser = losses::preserve::WEIGHTS)]
    preserve: f64,
    /// Share of pairs that are trained without their caption, so that what is drawn without one moves along
    /// (the official code's share); set aside for both sides of a pair, with --loss set for all of a set
    #[arg(long, value_name = "P", default_value_t = Config::default().caption_dropout, value_parser = config::DROPOUTS)]
    caption_dropout: f64,
    /// What stands for a caption that is dropped
    #[arg(long, value_enum, default_value_t = Config::default().dropped_caption)]
    dropped_caption: Dropped,
    /// Weight each time step by min-SNR with this γ (5 in its paper); with --loss sft only
    #[arg(long, value_name = "G", value_parser = losses::min_snr::GAMMAS)]
    snr_gamma: Option<f64>,
    /// Learning rate; 5e-7 in the paper, which trains all of SDXL's weights [default: 0.00001, of prodigy 1]
    #[arg(long, value_parser = config::RATES)]
    lr: Option<f64>,
    /// How the learning rate goes
    #[arg(long, value_enum, default_value_t = Config::default().schedule)]
    lr_schedule: LrSchedule,
    /// Steps of rising learning rate
    #[arg(long, value_name = "N", default_value_t = Config::default().warmup)]
    warmup: u32,
    /// Updates
    #[arg(long, value_name = "N", default_value_t = Config::default().steps, value_parser = config::STEPS)]
    steps: u32,
    /// Passes over the pairs instead of --steps, each in another order; a pass is the file of --pairs,
    /// else a list drawn once, with no fewer pairs than there are pictures to win
    #[arg(long, value_name = "E", conflicts_with = "steps", value_parser = config::EPOCHS)]
    epochs: Option<u32>,
    /// Pairs of an update, each a winner and a loser: 8 pairs are 16 pictures. With --loss set a multiple
    /// of --set-size
    #[arg(long, value_name = "N", default_value_t = Config::default().batch, value_parser = config::BATCHES)]
    batch: usize,
    /// Pictures of each side of a draw, winners and losers
    #[arg(long, value_name = "N", default_value_t = Config::default().set_size, value_parser = config::SET_SIZES)]
    set_size: usize,
    /// Pictures (not pairs) the network takes at once, which is what memory is taken for [default: all of the
    /// batch, twice --batch]; the loss is that of the whole batch
    #[arg(long, value_name = "N", value_parser = config::MICRO_BATCHES)]
    micro_batch: Option<usize>,
    /// Compute the network's blocks again for their gradient: much less memory, a third more time [default: as the
    /// bundle was exported, and where the memory that is free asks for it]
    #[arg(long, value_name = "on|off", value_parser = switch)]
    checkpointing: Option<bool>,
    /// Cut attention so that no matrix of its scores takes more MiB than this; on a CPU 8 is fastest for large
    /// pictures [default: as the bundle was exported]
    #[arg(long, value_name = "MIB", value_parser = SCORES)]
    attention_memory: Option<u64>,
    /// Operators of the training graph, which is made for this run's sizes [default: what --ep has]
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// Write the training graphs that would run, as DIR/unet_grad/model.onnx with links to their weights, and end
    #[arg(long, value_name = "DIR")]
    write_graph: Option<PathBuf>,
    /// Memory for gradients that wait for the errors of the whole batch, in MiB [default: as much as
    /// it takes]; the network runs twice for micro-batches whose gradients don't fit
    #[arg(long, value_name = "MIB", value_parser = mebibytes)]
    grad_memory: Option<u64>,
    /// Norm to clip the gradient to; 0 for no clipping
    #[arg(long, value_name = "NORM", default_value_t = Config::default().grad_clip, value_parser = config::NORMS)]
    grad_clip: f64,
    /// The optimizer
    #[arg(long, value_enum, default_value_t = Config::default().optimizer)]
    optimizer: Optimizer,
    /// AdamW and Prodigy: decay of the first moment
    #[arg(long, value_name = "B", default_value_t = Config::default().adam_beta1, value_parser = config::DECAYS)]
    adam_beta1: f64,
    /// AdamW and Prodigy: decay of the second moment
    #[arg(long, value_name = "B", default_value_t = Config::default().adam_beta2, value_parser = config::DECAYS)]
    adam_beta2: f64,
    /// AdamW and Prodigy: added to the denominator
    #[arg(long, value_name = "E", default_value_t = Config::default().adam_eps, value_parser = config::EPSILONS)]
    adam_eps: f64,
    /// AdamW and Prodigy: decoupled weight decay
    #[arg(long, value_name = "W", default_value_t = Config::default().weight_decay, value_parser = config::RATES)]
    weight_decay: f64,
    /// Write a moving average of the weights with this decay instead of the last ones
    #[arg(long, value_name = "D", value_parser = config::DECAYS)]
    ema: Option<f64>,
    /// First training time step that samples may have: a population is decided where noise is high
    #[arg(long, value_name = "T", default_value_t = Config::default().min_timestep)]
    min_timestep: usize,
    /// Time step before which they end [default: the schedule's last]
    #[arg(long, value_name = "T")]
    max_timestep: Option<usize>,
    /// How training time steps are spread over their range
    #[arg(long, value_enum, default_value_t = Timesteps::default().sampling)]
    timestep_sampling: Sampling,
    /// logit-normal: mean of the logit of the share of noise; above 0 for more noise
    #[arg(long, value_name = "M", default_value_t = Timesteps::default().logit_mean, value_parser = timesteps::LOGIT_MEANS)]
    logit_mean: f64,
    /// logit-normal: standard deviation of that logit
    #[arg(long, value_name = "S", default_value_t = Timesteps::default().logit_std, value_parser = timesteps::LOGIT_STDS)]
    logit_std: f64,
    /// mode: how much more in the middle; below 0 for more at the ends
    #[arg(long, value_name = "C", default_value_t = Timesteps::default().mode_scale, value_parser = timesteps::MODE_SCALES)]
    mode_scale: f64,
    /// Train on these pairs (JSON lines, as pairs.jsonl) instead of drawing some; a line's `weight` multiplies
    /// its term of the loss
    #[arg(long, value_name = "F")]
    pairs: Option<PathBuf>,
    /// Axes file with the target shares [default: the data set's or the bundle's]
    #[arg(long, value_name = "F", conflicts_with = "pairs")]
    axes: Option<PathBuf>,
    /// Train on neutral pictures without a classifier's verdict (pa-datagen --filter) too: they never win
    /// then, even where they are nearer to the target than the identity-specific ones
    #[arg(long, conflicts_with = "pairs")]
    unfiltered: bool,
    /// Train on what the LoRA itself draws, instead of pairs: the steps are cut into ROUNDS, each of which first draws
    /// pictures of the data set's neutral captions, and takes each by how much its caption's pictures lack what it
    /// shows
    #[arg(long, value_name = "ROUNDS", value_parser = online::ROUNDS,
        conflicts_with_all = ["pairs", "loss", "alpha", "epochs", "set_size", "snr_gamma", "caption_dropout",
            "pair_seed", "unfiltered"])]
    online: Option<u32>,
    /// Pictures of each caption in a round
    #[arg(long, value_name = "N", default_value_t = 16, requires = "online", value_parser = online::PICTURES)]
    online_pictures: u32,
    /// Captions of a round, which take turns [default: all]
    #[arg(long, value_name = "N", requires = "online", value_parser = online::CAPTIONS)]
    online_captions: Option<u32>,
    /// Classifier chain that looks at a round's pictures [default: the bundle's, then faces]
    #[arg(long, value_name = "CHAIN", requires = "online")]
    online_chain: Option<String>,
    /// Sampling steps of a round's pictures [default: the data set's]
    #[arg(long, value_name = "N", requires = "online")]
    online_steps: Option<u32>,
    /// Guidance scale of a round's pictures [default: the data set's]
    #[arg(long, value_name = "SCALE", requires = "online", value_parser = request::SCALES)]
    online_cfg: Option<f32>,
    /// How far the policies that a picture is for and against stand from the one that drew it: with less, a target is
    /// moved farther
    #[arg(long, value_name = "B", default_value_t = losses::nft::STRENGTH, requires = "online",
        value_parser = losses::nft::STRENGTHS)]
    online_strength: f64,
    /// Seed of the pairs [default: --seed]
    #[arg(long, value_name = "S")]
    pair_seed: Option<u64>,
    /// Draw N pictures of each validation caption while training goes on, and log how far their
    /// population is from the target
    #[arg(long, value_name = "N", value_parser = request::PICTURES)]
    validate: Option<u32>,
    /// Steps between validations; there is one before the first step and one after the last
    #[arg(long, value_name = "K", default_value_t = 100, requires = "validate", value_parser = request::EVERY)]
    validate_every: u32,
    /// Prompts to validate on, as pa-datagen takes them [default: the data set's neutral captions
    /// of people]
    #[arg(long, value_name = "FILE", requires = "validate")]
    validate_prompts: Option<PathBuf>,
    /// Classifier chain that looks at the pictures (its name or manifest) [default: the bundle's,
    /// then faces]
    #[arg(long, value_name = "CHAIN", requires = "validate")]
    validate_chain: Option<String>,
    /// Sampling steps of validation pictures [default: the data set's]
    #[arg(long, value_name = "N", requires = "validate")]
    validate_steps: Option<u32>,
    /// Guidance scale of validation pictures [default: the data set's]
    #[arg(
        long,
        value_name = "SCALE",
        requires = "validate", value_parser = request::SCALES)]
    validate_cfg: Option<f32>,
    /// End the run when a validation finds a mean discrepancy over axes of D or less
    #[arg(
        long,
        value_name = "D",
        requires = "validate", value_parser = request::TARGETS)]
    target_discrepancy: Option<f64>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    save_every: u32,
    /// Checkpoints to keep
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    keep_checkpoints: u32,
    /// Go on with the run in --out, if there is one
    #[arg(long)]
    resume: bool,
    /// Write everything of each step into this folder, to compute it again elsewhere
    #[arg(long, value_name = "DIR")]
    trace: Option<PathBuf>,
    /// Share the run with the other processes that mpirun or srun started, each on the device of
    /// its number among those of its machine, counted from --device
    #[arg(long)]
    mpi: bool,
    #[command(flatten)]
    common: Common,
}

/// MiB as bytes.
fn mebibytes(text: &str) -> Result<u64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| *n >= 0.0 && n.is_finite());
    number
        .map(|n| (n * 1_048_576.0) as u64)
        .ok_or_else(|| "expected a number of MiB from 0".to_owned())
}

/// `on` or `off`.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

impl Args {
    fn session(&self) -> SessionOptions {
        let mut session = SessionOptions::from(&self.common);
        if self.mpi {
            session.device += launcher::local() as i32;
        }
        session
    }

    fn validation(&self) -> Option<Arc<dyn Validation>> {
        let request = studio::Request {
            asked: Asked {
                pictures: self.validate?,
                prompts: self.validate_prompts.clone(),
                chain: self.validate_chain.clone(),
                steps: self.validate_steps,
                cfg: self.validate_cfg,
            },
            every: self.validate_every,
            target: self.target_discrepancy,
        };
        Some(Arc::new(request))
    }

    fn online(&self) -> Option<Online> {
        self.online.map(|rounds| Online {
            rounds,
            pictures: self.online_pictures,
            captions: self.online_captions,
            strength: self.online_strength,
        })
    }

    fn studio(&self) -> Option<Arc<dyn online::Studio>> {
        let rounds = Rounds {
            asked: Asked {
                pictures: self.online_pictures,
                prompts: None,
                chain: self.online_chain.clone(),
                steps: self.online_steps,
                cfg: self.online_cfg,
            },
            online: self.online()?,
        };
        Some(Arc::new(rounds))
    }

    fn pairs(&self) -> PairSource {
        let axes = self.axes.clone();
        match (&self.pairs, self.online) {
            (Some(file), _) => PairSource::File(file.clone()),
            (None, Some(_)) => PairSource::Online { axes },
            (None, None) => PairSource::Drawn {
                axes,
                unfiltered: self.unfiltered,
            },
        }
    }

    fn request(&self) -> Request {
        let online = self.online();
        Request {
            model: self.model.clone(),
            data: self.data.clone(),
            out: self.out.clone().unwrap_or_default(),
            pairs: self.pairs(),
            lora_from: self.lora_from.clone(),
            validate: self.validation(),
            studio: self.studio(),
            config: Config {
                loss: online.map_or(self.loss, |_| LossKind::online()),
                beta: self.beta,
                alpha: self.alpha,
                preserve: self.preserve,
                snr_gamma: self.snr_gamma,
                caption_dropout: online.map_or(self.caption_dropout, |_| 0.0),
                dropped_caption: self.dropped_caption,
                rank: self.lora,
                lora_alpha: self.lora_alpha.filter(|alpha| *alpha != self.lora as f64),
                init: self.lora_init,
                lr: self.lr.unwrap_or(self.optimizer.lr()),
                schedule: self.lr_schedule,
                warmup: self.warmup,
                steps: self.steps,
                epochs: self.epochs,
                batch: self.batch,
                set_size: self.set_size,
                grad_clip: self.grad_clip,
                optimizer: self.optimizer,
                adam_beta1: self.adam_beta1,
                adam_beta2: self.adam_beta2,
                adam_eps: self.adam_eps,
                weight_decay: self.weight_decay,
                ema: self.ema,
                min_timestep: self.min_timestep,
                max_timestep: self.max_timestep,
                spread: Timesteps {
                    sampling: self.timestep_sampling,
                    logit_mean: self.logit_mean,
                    logit_std: self.logit_std,
                    mode_scale: self.mode_scale,
                },
                online,
                seed: self.common.seed,
                pair_seed: self.pair_seed.unwrap_or(self.common.seed),
            },
            environment: Environment {
                session: self.session(),
                making: Making {
                    target: self.target,
                    checkpointing: self.checkpointing,
                    score_limit: self.attention_memory.map(|mib| mib << 20),
                },
                micro_batch: self.micro_batch,
                grad_memory: self.grad_memory,
                save_every: self.save_every,
                keep: self.keep_checkpoints as usize,
                resume: self.resume,
                trace: self.trace.clone(),
            },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::main(move |stop| finetune(&args, stop))
}

fn finetune(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    let threads = args.common.threads();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    if let Some(dir) = &args.write_graph {
        let written = align::write_graphs(&args.request(), dir)?;
        cli::written(args.common.json, &written);
        return Ok(Outcome::Done);
    }
    if args.mpi {
        shared(args, stop)
    } else {
        train(args, Box::new(Alone), stop)
    }
}

#[cfg(feature = "mpi")]
fn shared(args: &Args, stop: &Stop) -> anyhow::Result<Outcome> {
    popalign::align::ranks::mpi::with(|ranks| train(args, ranks, stop))
}

#[cfg(not(feature = "mpi"))]
fn shared(_: &Args, _: &Stop) -> anyhow::Result<Outcome> {
    anyhow::bail!("this pa-finetune was built without MPI; build it with --features mpi")
}

/// Trains, and shows what happens where rank 0 is.
fn train(args: &Args, ranks: Box<dyn Ranks>, stop: &Stop) -> anyhow::Result<Outcome> {
    let first = ranks.rank() == 0;
    let mut shown = Shown::new(args.common.json, first, args.steps);
    let mut observe = |event: Event<'_>| {
        if first {
            shown.show(&event);
        }
    };
    let finish = run(&args.request(), ranks, stop, &mut observe);
    shown.clear();
    let finish = finish?;
    if let (true, Some(out)) = (first, &args.out) {
        shown.finish(finish, out);
    }
    Ok(match finish {
        Finish::Done | Finish::Reached(_) => Outcome::Done,
        Finish::Interrupted(_) => Outcome::Interrupted,
    })
}
