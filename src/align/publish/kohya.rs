//! The metadata of a LoRA file that kohya's tools, ComfyUI and the web UIs show.
//!
//! Keys: kohya's sd-scripts, `train_network.py` (`ss_…`) and `library/sai_model_spec.py`; Stability AI's
//! ModelSpec 1.0.0 (`modelspec.…`). Dates are whole days: the day on which the run began, so that it
//! doesn't tell in the bytes whether a run was broken and gone on with.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::About;
use crate::base::time;
use crate::family::Prediction;

/// What a user of the file should know, in one line.
const HINT: &str = "No trigger word: use captions that don't say who is in the picture. Weight 1.";

impl About {
    /// All entries but those that the writer knows from the factors. `begun` is in seconds since 1970.
    pub(super) fn kohya(&self, steps: u32, begun: Option<f64>) -> BTreeMap<String, String> {
        let config = &self.config;
        let [width, height] = self.sizes[0];
        let (prediction, v) = match self.prediction {
            Prediction::Epsilon => ("epsilon", "False"),
            Prediction::VPrediction => ("v", "True"),
        };
        let mut entries = vec![
            ("ss_output_name", "popalign".to_owned()),
            ("ss_sd_model_name", self.base.name.clone()),
            ("ss_training_comment", self.sentence()),
            ("ss_learning_rate", config.lr.to_string()),
            ("ss_unet_lr", config.lr.to_string()),
            ("ss_lr_scheduler", word(&config.schedule)),
            ("ss_lr_warmup_steps", config.warmup.to_string()),
            ("ss_optimizer", word(&config.optimizer)),
            ("ss_steps", steps.to_string()),
            ("ss_max_train_steps", config.steps.to_string()),
            ("ss_seed", config.seed.to_string()),
            ("ss_total_batch_size", config.batch.to_string()),
            ("ss_max_grad_norm", config.grad_clip.to_string()),
            ("ss_num_train_images", self.pictures.to_string()),
            ("ss_resolution", format!("({width}, {height})")),
            ("ss_v2", "False".to_owned()),
            ("ss_v_parameterization", v.to_owned()),
            ("modelspec.resolution", format!("{width}x{height}")),
            ("modelspec.prediction_type", prediction.to_owned()),
            ("modelspec.usage_hint", HINT.to_owned()),
            ("modelspec.description", self.sentence()),
            (
                "modelspec.implementation_version",
                format!("popalign/{}", env!("CARGO_PKG_VERSION")),
            ),
        ];
        if let Some(family) = self.base.family {
            entries.push(("ss_base_model_version", family.version.to_owned()));
            entries.push((
                "modelspec.architecture",
                format!("{}/lora", family.architecture),
            ));
            entries.push(("modelspec.implementation", family.implementation.to_owned()));
        }
        if let Some((day, midnight)) = begun.and_then(time::day) {
            entries.push(("modelspec.date", day));
            entries.push(("ss_training_started_at", format!("{midnight}.0")));
        }
        let entries = entries.into_iter();
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// What the LoRA is, in a sentence.
    pub(super) fn sentence(&self) -> String {
        format!(
            "Population-level preference alignment ({} loss) of {} by popalign {}: captions that don't \
             say who is in the picture draw the target population.",
            self.config.loss.name,
            self.base.name,
            env!("CARGO_PKG_VERSION"),
        )
    }
}

/// The name of a choice, as options spell it.
pub(super) fn word(choice: &impl Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
