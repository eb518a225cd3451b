//! Reading and checking a configuration.

use std::path::Path;

use serde_json::Value;

use super::fields::Fields;
use super::{Error, Result};
use crate::base::{Values, fsio};
use crate::family::Prediction;

/// diffusers' schedulers of models that are trained with a discrete schedule of betas and predict noise or
/// velocity: their configurations describe the model alike.
const CLASSES: [&str; 19] = [
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
];

/// Keys that change nothing here, whatever they are.
pub const WITHOUT_EFFECT: [&str; 13] = [
    // Of what is off, or refused where it is on: thresholding, flow sigmas.
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    // Of PNDM and the stochastic DPM-Solver.
    "skip_prk_steps",
    "noise_sampler_seed",
    // Of UniPC and the stochastic Adams solver.
    "predict_x0",
    "solver_p",
    "disable_corrector",
    "predictor_order",
    "corrector_order",
    "tau_func",
    // Of diffusers' first versions: torch or numpy.
    "tensor_format",
];

/// Most training steps of a schedule: networks are told a step as a single-precision number, and
/// every one has an entry in a table. Models have 1000.
pub const MOST_TIMESTEPS: usize = 1 << 20;

/// What `num_train_timesteps` can be.
const TRAIN_TIMESTEPS: Values<usize> = Values::within("a number", 2, MOST_TIMESTEPS);
/// What a variance added in one step can be.
const BETA: Values<f64> = Values::below("a number", 0.0, 1.0);
const SIGMA: Values<f64> = Values::above("a number", 0.0);
const RANGE: Values<f32> = Values::from("a number", 0.0);
const ORDER: Values<u32> = Values::within("a number", 1, 3);

/// How the sampling steps are spread over the training steps (arXiv 2305.08891, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Multiples of the step ratio, counted from the clean end; `steps_offset` is added.
    Leading,
    /// Counted from the noisy end.
    Trailing,
    /// From one end to the other.
    Linspace,
}

/// The variance that each training step adds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Betas {
    /// Evenly from the first to the last.
    Linear([f64; 2]),
    /// Their roots evenly.
    ScaledLinear([f64; 2]),
    /// A list.
    Trained(Vec<f32>),
}

/// How noise levels are spread between the highest and the lowest, other than by training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Respacing {
    /// Karras et al., arXiv 2206.00364, equation 5.
    Karras,
    /// Evenly in their logarithm.
    Exponential,
    /// By quantiles of a beta distribution (arXiv 2407.12173).
    Beta,
}

impl Respacing {
    /// The key that asks for it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Karras => "use_karras_sigmas",
            Self::Exponential => "use_exponential_sigmas",
            Self::Beta => "use_beta_sigmas",
        }
    }
}

/// What some samplers follow, some refuse, and some have nothing to do with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// The spreads asked for; more than one is a contradiction.
    pub(crate) respacings: Vec<Respacing>,
    /// The lowest and the highest noise level of a spread [default: the schedule's].
    pub(crate) sigma_range: [Option<f64>; 2],
    /// Whether sampling ends at the schedule's lowest noise level rather than at none.
    pub(crate) ends_at_lowest: bool,
    /// Whether noise levels are interpolated between training steps in their logarithm.
    pub(crate) log_linear: bool,
    /// Whether predicted pictures are limited by their own quantiles.
    pub(crate) thresholding: bool,
    /// DPM-Solver's.
    pub(crate) solver: Solver,
    /// LCM's.
    pub(crate) lcm: Lcm,
}

/// What LCM's configuration says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lcm {
    /// Steps that the model was distilled for.
    pub(crate) original_steps: usize,
    /// What timesteps are multiplied with in the boundary condition.
    pub(crate) scaling: f64,
    /// Clamp the predicted picture to ± this.
    pub(crate) clip: Option<f32>,
}

/// What DPM-Solver's configuration says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Solver {
    /// Its order.
    pub(crate) order: u32,
    /// What it solves.
    pub(crate) algorithm: String,
    /// How its second order is taken.
    pub(crate) kind: String,
    /// Whether few steps end with one of first order.
    pub(crate) lower_order_final: bool,
    /// Whether any steps do.
    pub(crate) euler_at_final: bool,
    /// Whether steps are even in log-SNR by Lu's formula.
    pub(crate) lu_lambdas: bool,
    /// The lowest half log-SNR that steps start from.
    pub(crate) lambda_min: f64,
}

/// A checked `scheduler_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// Training steps of the diffusion, usually 1000.
    pub train_timesteps: usize,
    /// What the UNet predicts.
    pub prediction: Prediction,
    /// The spacing, when the file says; diffusers' samplers differ in their defaults.
    pub spacing: Option<Spacing>,
    /// Added to every timestep under leading spacing.
    pub steps_offset: usize,
    /// DDIM: clamp the predicted picture to ± this.
    pub clip_sample: Option<f32>,
    /// DDIM: the last step goes to ᾱ = 1 rather than to ᾱ₀.
    pub set_alpha_to_one: bool,
    /// Whether betas are rescaled so that the last step is pure noise (arXiv 2305.08891, section 3.1).
    pub zero_terminal_snr: bool,
    pub(crate) betas: Betas,
    pub(crate) sampling: Sampling,
}

impl SchedulerConfig {
    /// Reads and checks a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error`], naming file and key.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&fsio::read(path)?, path)
    }

    /// Checks the bytes of a configuration; `path` is for messages.
    ///
    /// # Errors
    /// [`Error`], naming file and key.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut fields = Fields::parse(bytes, path)?;
        if let Some(class) = fields.take("_class_name") {
            check_class(&class, "_class_name", path)?;
        }
        let train_timesteps = fields.number("num_train_timesteps", TRAIN_TIMESTEPS)?;
        let train_timesteps = train_timesteps.unwrap_or(1000);
        refuse_other_kinds(&mut fields)?;
        let clip_range = fields.number("clip_sample_range", RANGE)?.unwrap_or(1.0);
        let clip_sample = fields.said("clip_sample")?;
        let lcm = Lcm {
            original_steps: fields
                .number("original_inference_steps", TRAIN_TIMESTEPS)?
                .unwrap_or(50),
            scaling: fields.number("timestep_scaling", SIGMA)?.unwrap_or(10.0),
            clip: clip_sample.unwrap_or(false).then_some(clip_range),
        };
        let config = Self {
            train_timesteps,
            prediction: prediction(&mut fields)?,
            spacing: spacing(&mut fields)?,
            steps_offset: steps_offset(&mut fields, train_timesteps)?,
            clip_sample: clip_sample.unwrap_or(true).then_some(clip_range),
            set_alpha_to_one: fields.flag("set_alpha_to_one", true)?,
            zero_terminal_snr: fields.flag("rescale_betas_zero_snr", false)?,
            betas: betas(&mut fields, train_timesteps)?,
            sampling: sampling(&mut fields, lcm)?,
        };
        for key in WITHOUT_EFFECT {
            fields.take(key);
        }
        fields.finish()?;
        Ok(config)
    }
}

/// Refuses a scheduler's class that isn't understood; `key` and `path` say where it stands.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_class(class: &Value, key: &str, path: &Path) -> Result<()> {
    // Flax's classes have the same keys.
    let name = class
        .as_str()
        .map(|name| name.strip_prefix("Flax").unwrap_or(name));
    match name.is_some_and(|name| CLASSES.contains(&name)) {
        true => Ok(()),
        false => Err(Error::Unsupported {
            path: path.to_path_buf(),
            key: key.to_owned(),
            value: class
                .as_str()
                .map_or_else(|| class.to_string(), str::to_owned),
            supported: CLASSES.join(", "),
        }),
    }
}

/// Refuses what only models of another kind have.
fn refuse_other_kinds(fields: &mut Fields) -> Result<()> {
    let no = [("false", Value::Bool(false))];
    let yes = [("true", Value::Bool(true))];
    let fixed = [
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
    ];
    let fixed = fixed.map(|name| (name, Value::from(name)));
    // A learned variance is a network's second half, which none here has.
    let ordinary: [(&str, &[(&str, Value)]); 7] = [
        ("use_flow_sigmas", &no),
        ("use_dynamic_shifting", &no),
        ("predict_epsilon", &yes),
        ("timestep_type", &[("discrete", "discrete".into())]),
        ("variance_type", &fixed),
        ("shift_terminal", &[]),
        ("timestep_values", &[]),
    ];
    for (key, values) in ordinary {
        let Some(value) = fields.take(key) else {
            continue;
        };
        if !values.iter().any(|(_, fine)| *fine == value) {
            let mut names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
            names.push("null");
            return Err(fields.bad(key, &value, names.join(", ")));
        }
    }
    Ok(())
}

fn prediction(fields: &mut Fields) -> Result<Prediction> {
    let words = [Prediction::Epsilon, Prediction::VPrediction].map(|p| (p.name(), p));
    Ok(fields.word("prediction_type", &words)?.unwrap_or_default())
}

fn spacing(fields: &mut Fields) -> Result<Option<Spacing>> {
    let words = [
        ("leading", Spacing::Leading),
        ("trailing", Spacing::Trailing),
        ("linspace", Spacing::Linspace),
    ];
    fields.word("timestep_spacing", &words)
}

fn steps_offset(fields: &mut Fields, train_timesteps: usize) -> Result<usize> {
    let values = Values::below("a number", 0, train_timesteps);
    Ok(fields.number("steps_offset", values)?.unwrap_or(0))
}

fn betas(fields: &mut Fields, count: usize) -> Result<Betas> {
    let start = fields.number("beta_start", BETA)?.unwrap_or(0.0001);
    let end = fields.number("beta_end", BETA)?.unwrap_or(0.02);
    /// Betas between two ends.
    type Between = fn([f64; 2]) -> Betas;
    let words: [(&str, Between); 2] = [
        ("linear", Betas::Linear),
        ("scaled_linear", Betas::ScaledLinear),
    ];
    let betas = fields
        .word("beta_schedule", &words)?
        .unwrap_or(Betas::Linear);
    let Some(list) = fields.take("trained_betas") else {
        return Ok(betas([start, end]));
    };
    let number = |value: &Value| value.as_f64().filter(|&beta| BETA.contains(beta));
    let numbers = list.as_array().filter(|list| list.len() == count);
    let numbers = numbers.and_then(|list| list.iter().map(number).collect::<Option<Vec<f64>>>());
    match numbers {
        Some(numbers) => Ok(Betas::Trained(numbers.into_iter().map(to_f32).collect())),
        None => {
            let supported = format!("null, or a list of {count} numbers from 0 to below 1");
            Err(fields.bad("trained_betas", &list, supported))
        }
    }
}

fn sampling(fields: &mut Fields, lcm: Lcm) -> Result<Sampling> {
    let mut respacings = Vec::new();
    for respacing in [Respacing::Karras, Respacing::Exponential, Respacing::Beta] {
        if fields.flag(respacing.key(), false)? {
            respacings.push(respacing);
        }
    }
    let sigma_range = [
        fields.number("sigma_min", SIGMA)?,
        fields.number("sigma_max", SIGMA)?,
    ];
    if let [Some(low), Some(high)] = sigma_range
        && low >= high
    {
        return Err(fields.bad("sigma_min", &low.into(), format!("below sigma_max, {high}")));
    }
    let ends = [("zero", false), ("sigma_min", true)];
    let interpolations = [("linear", false), ("log_linear", true)];
    Ok(Sampling {
        respacings,
        sigma_range,
        ends_at_lowest: fields.word("final_sigmas_type", &ends)?.unwrap_or(false),
        log_linear: fields
            .word("interpolation_type", &interpolations)?
            .unwrap_or(false),
        thresholding: fields.flag("thresholding", false)?,
        solver: solver(fields)?,
        lcm,
    })
}

fn solver(fields: &mut Fields) -> Result<Solver> {
    let mut text = |key: &str, default: &str| match fields.take(key) {
        None => Ok(default.to_owned()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(fields.bad(key, &other, "a name")),
    };
    let algorithm = text("algorithm_type", "dpmsolver++")?;
    let kind = text("solver_type", "midpoint")?;
    Ok(Solver {
        order: fields.number("solver_order", ORDER)?.unwrap_or(2),
        algorithm,
        kind,
        lower_order_final: fields.flag("lower_order_final", true)?,
        euler_at_final: fields.flag("euler_at_final", false)?,
        lu_lambdas: fields.flag("use_lu_lambdas", false)?,
        lambda_min: lambda_min(fields)?,
    })
}

/// A number, or Python's word for the lowest of all.
fn lambda_min(fields: &mut Fields) -> Result<f64> {
    let key = "lambda_min_clipped";
    match fields.take(key) {
        None => Ok(f64::NEG_INFINITY),
        Some(value) if value == "-Infinity" => Ok(f64::NEG_INFINITY),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(number),
            None => Err(fields.bad(key, &value, "a number, -Infinity")),
        },
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to float32 is meant"
)]
fn to_f32(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
