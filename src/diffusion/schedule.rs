//! The noise schedule a model was trained with, from its `scheduler_config.json`.
//!
//! Keys and defaults are diffusers' (`schedulers/scheduling_*.py`). What is not supported is
//! refused by name rather than ignored: a silently different schedule makes grey pictures.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::base::fsio;
pub use crate::family::Prediction;

/// Why a scheduler configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] fsio::Error),
    /// Not JSON, or a key of the wrong kind.
    #[error("{} is not a scheduler configuration", path.display())]
    Json {
        /// The configuration.
        path: PathBuf,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A key with a value that is not supported.
    #[error("{}: `{key}` is {value}, supported: {supported}", path.display())]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that would do.
        supported: &'static str,
    },
    /// More steps than the model was trained with, or none.
    #[error("--steps is {steps}, expected 1..={most} for this model and sampler")]
    Steps {
        /// The number asked for.
        steps: usize,
        /// The most there can be.
        most: usize,
    },
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Betas {
    Linear,
    ScaledLinear,
}

#[derive(Debug, Deserialize)]
struct Raw {
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Value>,
    prediction_type: Option<String>,
    timestep_spacing: Option<String>,
    steps_offset: Option<usize>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f32>,
    set_alpha_to_one: Option<bool>,
    thresholding: Option<bool>,
    rescale_betas_zero_snr: Option<bool>,
    interpolation_type: Option<String>,
    timestep_type: Option<String>,
    use_karras_sigmas: Option<bool>,
    use_exponential_sigmas: Option<bool>,
    use_beta_sigmas: Option<bool>,
    final_sigmas_type: Option<String>,
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
    betas: Betas,
    beta_start: f64,
    beta_end: f64,
}

impl SchedulerConfig {
    /// Reads and checks a `scheduler_config.json`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&fsio::read(path)?, path)
    }

    /// Checks the bytes of a configuration; `path` is for messages.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            path: path.to_path_buf(),
            source,
        })?;
        let file = Checked { path };
        file.refuse_what_is_not_built(&raw)?;
        let train_timesteps = raw.num_train_timesteps.unwrap_or(1000);
        if train_timesteps < 2 {
            return Err(file.bad("num_train_timesteps", train_timesteps, "2 or more"));
        }
        Ok(Self {
            train_timesteps,
            prediction: file.prediction(raw.prediction_type.as_deref())?,
            spacing: file.spacing(raw.timestep_spacing.as_deref())?,
            steps_offset: raw.steps_offset.unwrap_or(0),
            clip_sample: raw
                .clip_sample
                .unwrap_or(true)
                .then(|| raw.clip_sample_range.unwrap_or(1.0)),
            set_alpha_to_one: raw.set_alpha_to_one.unwrap_or(true),
            betas: file.betas(raw.beta_schedule.as_deref())?,
            beta_start: raw.beta_start.unwrap_or(0.0001),
            beta_end: raw.beta_end.unwrap_or(0.02),
        })
    }

    /// ᾱ of every training step: the share of the clean latent's variance that is left.
    pub fn alphas_cumprod(&self) -> Vec<f32> {
        // torch multiplies in double precision and rounds each element.
        let mut product = 1.0f64;
        self.betas()
            .into_iter()
            .map(|beta| {
                product *= f64::from(1.0 - beta);
                to_f32(product)
            })
            .collect()
    }

    /// σ = √((1−ᾱ)/ᾱ) of every training step.
    pub fn sigmas(&self) -> Vec<f32> {
        self.alphas_cumprod()
            .into_iter()
            .map(|alpha| ((1.0 - alpha) / alpha).sqrt())
            .collect()
    }

    fn betas(&self) -> Vec<f32> {
        let n = self.train_timesteps;
        match self.betas {
            Betas::Linear => linspace(self.beta_start, self.beta_end, n),
            Betas::ScaledLinear => linspace(self.beta_start.sqrt(), self.beta_end.sqrt(), n)
                .into_iter()
                .map(|root| root * root)
                .collect(),
        }
    }
}

/// `torch.linspace` in float32: from both ends towards the middle.
#[expect(
    clippy::cast_precision_loss,
    reason = "as torch: step numbers are small"
)]
fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (to_f32(start), to_f32(end));
    let step = (end - start) / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                start + step * i as f32
            } else {
                end - step * (n - 1 - i) as f32
            }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to float32 is meant"
)]
pub(super) fn to_f32(x: f64) -> f32 {
    x as f32
}

struct Checked<'a> {
    path: &'a Path,
}

impl Checked<'_> {
    fn bad(
        &self,
        key: &'static str,
        value: impl std::fmt::Display,
        supported: &'static str,
    ) -> Error {
        Error::Unsupported {
            path: self.path.to_path_buf(),
            key,
            value: value.to_string(),
            supported,
        }
    }

    fn refuse_what_is_not_built(&self, raw: &Raw) -> Result<(), Error> {
        if let Some(betas) = raw.trained_betas.as_ref().filter(|v| !v.is_null()) {
            let count = betas.as_array().map_or(0, Vec::len);
            return Err(self.bad("trained_betas", format!("a list of {count}"), "null"));
        }
        for (key, value) in [
            ("thresholding", raw.thresholding),
            ("rescale_betas_zero_snr", raw.rescale_betas_zero_snr),
            ("use_karras_sigmas", raw.use_karras_sigmas),
            ("use_exponential_sigmas", raw.use_exponential_sigmas),
            ("use_beta_sigmas", raw.use_beta_sigmas),
        ] {
            if value == Some(true) {
                return Err(self.bad(key, "true", "false"));
            }
        }
        for (key, value, supported) in [
            ("interpolation_type", &raw.interpolation_type, "linear"),
            ("timestep_type", &raw.timestep_type, "discrete"),
            ("final_sigmas_type", &raw.final_sigmas_type, "zero"),
        ] {
            if let Some(value) = value.as_ref().filter(|v| *v != supported) {
                return Err(self.bad(key, value, supported));
            }
        }
        Ok(())
    }

    fn prediction(&self, value: Option<&str>) -> Result<Prediction, Error> {
        let Some(name) = value else {
            return Ok(Prediction::default());
        };
        Prediction::named(name)
            .ok_or_else(|| self.bad("prediction_type", name, "epsilon, v_prediction"))
    }

    fn spacing(&self, value: Option<&str>) -> Result<Option<Spacing>, Error> {
        match value {
            None => Ok(None),
            Some("leading") => Ok(Some(Spacing::Leading)),
            Some("trailing") => Ok(Some(Spacing::Trailing)),
            Some("linspace") => Ok(Some(Spacing::Linspace)),
            Some(other) => Err(self.bad("timestep_spacing", other, "leading, trailing, linspace")),
        }
    }

    fn betas(&self, value: Option<&str>) -> Result<Betas, Error> {
        match value {
            None | Some("linear") => Ok(Betas::Linear),
            Some("scaled_linear") => Ok(Betas::ScaledLinear),
            Some(other) => Err(self.bad("beta_schedule", other, "linear, scaled_linear")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SchedulerConfig, Error> {
        SchedulerConfig::parse(json.as_bytes(), Path::new("scheduler_config.json"))
    }

    #[test]
    fn sdxl_has_the_published_ends() {
        let config =
            parse(r#"{"beta_schedule":"scaled_linear","beta_start":0.00085,"beta_end":0.012}"#);
        let config = config.unwrap();
        let sigmas = config.sigmas();
        // Calculated in double precision. At the clean end 1 − ᾱ is a difference of nearly equal
        // float32 numbers, in diffusers too: half an ulp of 1 is 7e-5 of it.
        assert!(
            (sigmas[0] / 0.029_167_2 - 1.0).abs() < 1e-4,
            "{}",
            sigmas[0]
        );
        assert!(
            (sigmas[999] / 14.614_641 - 1.0).abs() < 1e-5,
            "{}",
            sigmas[999]
        );
        assert!((config.alphas_cumprod()[999] / 0.004_660_099 - 1.0).abs() < 1e-5);
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (json, key) in [
            (r#"{"prediction_type":"sample"}"#, "prediction_type"),
            (r#"{"beta_schedule":"squaredcos_cap_v2"}"#, "beta_schedule"),
            (r#"{"timestep_spacing":"odd"}"#, "timestep_spacing"),
            (r#"{"use_karras_sigmas":true}"#, "use_karras_sigmas"),
            (
                r#"{"rescale_betas_zero_snr":true}"#,
                "rescale_betas_zero_snr",
            ),
            (r#"{"trained_betas":[0.1]}"#, "trained_betas"),
            (r#"{"final_sigmas_type":"sigma_min"}"#, "final_sigmas_type"),
            (r#"{"num_train_timesteps":1}"#, "num_train_timesteps"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported { key: k, .. } if *k == key),
                "{error}"
            );
            assert!(error.to_string().contains(key), "{error}");
        }
        assert!(matches!(parse("[]"), Err(Error::Json { .. })));
    }
}
