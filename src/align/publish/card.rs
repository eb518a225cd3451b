//! The model card: README.md of a LoRA's folder, as the Hugging Face hub shows it.

use std::fmt::Write;

use super::About;
use super::kohya::word;
use crate::prompts::axes::Axis;

/// The line that says whose text it is.
const OWN: &str = "<!-- Written by pa-finetune, which writes it anew; delete this line to keep your own text. -->";
/// The marks around the figures of `pa-score --card`.
pub const FIGURES: [&str; 2] = ["<!-- pa-score -->", "<!-- /pa-score -->"];
/// What stands there before any.
const NO_FIGURES: &str =
    "Not measured yet. `pa-score AFTER --against BEFORE --card README.md` puts its table here.";

/// A card with other figures between its marks; nothing if it has no marks, or more than one pair.
pub fn put_figures(card: &str, figures: &str) -> Option<String> {
    let (before, after) = around(card)?;
    let [open, close] = FIGURES;
    Some(format!(
        "{before}{open}\n{}\n{close}{after}",
        figures.trim()
    ))
}

/// What stands before, and after, the figures and their marks.
fn around(card: &str) -> Option<(&str, &str)> {
    let [open, close] = FIGURES;
    let once = [open, close]
        .iter()
        .all(|mark| card.matches(mark).count() == 1);
    let (before, rest) = card.split_once(open).filter(|_| once)?;
    Some((before, rest.split_once(close)?.1))
}

/// The figures between the marks.
fn figures(card: &str) -> Option<&str> {
    let (before, after) = around(card)?;
    let [open, close] = FIGURES;
    card.get(before.len() + open.len()..card.len() - after.len() - close.len())
}

impl About {
    /// The card of a run that has taken so many steps, with the figures of the card of before. Nothing
    /// where that isn't ours.
    pub(super) fn card(
        &self,
        steps: u32,
        parameters: usize,
        before: Option<&str>,
    ) -> Option<String> {
        if before.is_some_and(|text| !text.contains(OWN)) {
            return None;
        }
        let kept = before.and_then(figures).unwrap_or(NO_FIGURES).trim();
        let [open, close] = FIGURES;
        let Self { base, .. } = self;
        let pipeline = &base.pipeline;
        let loaded = base.id.as_deref().unwrap_or("PATH/OF/THE/BASE/MODEL");
        Some(format!(
            "{}\
             {OWN}\n\n\
             # PopAlign LoRA for {name}\n\n\
             {}\n\n\
             ## Use\n\n\
             ```python\n\
             from diffusers import {pipeline}\n\n\
             pipe = {pipeline}.from_pretrained(\"{loaded}\")\n\
             pipe.load_lora_weights(\".\", weight_name=\"pytorch_lora_weights.safetensors\")\n\
             ```\n\n\
             `kohya_lora_weights.safetensors` is the same LoRA for ComfyUI, the web UIs and kohya's tools. There \
             is no trigger word; it is meant for weight 1 and captions that don't say who is in the picture.\n\n\
             ## Target\n\n\
             {}\n\
             ## Training\n\n\
             {}\n\
             ## Figures\n\n\
             {open}\n{kept}\n{close}\n\n\
             ## Limits\n\n\
             - Figures are by a classifier that sees only the values it was trained on. They say what pictures \
             look like to it, not who anybody is.\n\
             - They hold for captions of the kind that was measured and for that sampler and guidance scale; more \
             guidance brings part of a bias back.\n\
             - The LoRA changes the base model's population of pictures. It keeps that model's other limits, and \
             its licence.\n",
            self.front_matter(),
            self.sentence(),
            self.target(),
            self.training(steps, parameters),
            name = base.name,
        ))
    }

    /// What the hub reads.
    fn front_matter(&self) -> String {
        let mut text = "---\n".to_owned();
        if let Some(id) = &self.base.id {
            text += &format!("base_model: {id}\n");
        }
        let tag = self
            .base
            .family
            .map_or(String::new(), |family| format!(", {}", family.tag));
        text + &format!(
            "library_name: diffusers\ntags: [text-to-image, diffusers, lora, template:sd-lora, popalign{tag}]\n---\n"
        )
    }

    fn target(&self) -> String {
        let Some(axes) = &self.axes else {
            return "The values that captions name, all alike.\n".to_owned();
        };
        let share = |(value, share): (&String, &f64)| format!("{value} {:.0} %", 100.0 * share);
        let row = |axis: &Axis| {
            let shares: Vec<String> = axis.values.iter().zip(&axis.target).map(share).collect();
            format!("| {} | {} |\n", axis.name, shares.join(", "))
        };
        let rows: String = axes.axes().iter().map(row).collect();
        format!("| axis | share of pictures |\n| --- | --- |\n{rows}")
    }

    fn training(&self, steps: u32, parameters: usize) -> String {
        let config = &self.config;
        let sizes: Vec<String> = self.sizes.iter().map(|[w, h]| format!("{w}x{h}")).collect();
        let mut rows = vec![
            ("loss", format!("{}, β {}", config.loss.name, config.beta)),
            ("steps", format!("{steps} of {} pairs", config.batch)),
            (
                "learning rate",
                format!(
                    "{}, {}, {} steps of warm-up",
                    config.lr,
                    word(&config.schedule),
                    config.warmup
                ),
            ),
            (
                "optimizer",
                format!(
                    "{}, gradients clipped to {}",
                    word(&config.optimizer),
                    config.grad_clip
                ),
            ),
            (
                "LoRA",
                format!(
                    "rank {}, alpha {}, {parameters} parameters",
                    config.rank,
                    config.alpha_of_lora()
                ),
            ),
            (
                "data",
                format!(
                    "{} pictures of {} captions, {}",
                    self.pictures,
                    self.captions,
                    sizes.join(", ")
                ),
            ),
            ("seed", config.seed.to_string()),
        ];
        if config.preserve > 0.0 {
            rows.push(("preservation", format!("weight {}", config.preserve)));
        }
        if config.caption_dropout > 0.0 {
            rows.push(("captions dropped", config.caption_dropout.to_string()));
        }
        if let Some(decay) = config.ema {
            rows.push(("average of weights", format!("decay {decay}")));
        }
        let mut text = "| | |\n| --- | --- |\n".to_owned();
        for (name, value) in rows {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text + "\n`manifest.json` has every option, and the SHA-256 of what went in and came out.\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_go_between_the_marks() {
        let [open, close] = FIGURES;
        let card = format!("a\n{open}\nold\n{close}\nb\n");
        let next = put_figures(&card, "\n| new |\n").unwrap();
        assert_eq!(next, format!("a\n{open}\n| new |\n{close}\nb\n"));
        assert_eq!(figures(&next).unwrap().trim(), "| new |");
        for other in [
            "a\nb\n".to_owned(),
            format!("{open} a"),
            format!("{close}{open}"),
            card.repeat(2),
        ] {
            assert_eq!(put_figures(&other, "x"), None, "{other}");
        }
    }
}
