//! `--trace`: every step whole in a file, so that anyone can compute it again elsewhere.
//!
//! `scripts/oracle/finetune.py` does so in PyTorch. The text embeddings are not repeated here: the
//! data set's `text.safetensors` has them as `prompt_embeds.<caption_id>` and `pooled.<caption_id>`,
//! the id in eight hexadecimal digits; so has the file itself those of the empty caption, where some are
//! dropped. `weight` holds the factors c_i, `scale` what the list of pairs
//! multiplies each term of the loss with; `advantage` is there in a run of rounds, of the pictures that it has
//! drawn, which come first.

use std::collections::BTreeMap;
use std::path::Path;

use super::Result;
use super::config::Config;
use super::factors::FactorSet;
use super::trainer::{Record, Report};
use crate::tensors::{NewTensor, write_safetensors};

/// Writes `step-NNNNN.safetensors` (numbered from 1) with the tensors that the design names, and
/// the hyper-parameters as metadata.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    dir: &Path,
    config: &Config,
    factors: &FactorSet,
    report: &Report,
    record: &Record,
) -> Result<()> {
    let batch = [record.shape[0]];
    let scalars = [
        report.pairs.map_or(0.0, |pairs| pairs.mu) as f32,
        report.loss as f32,
        report.lr as f32,
        report.grad_norm,
    ];
    let mut tensors = vec![
        NewTensor::f32("latents", &record.shape, &record.latents),
        NewTensor::f32("noise", &record.shape, &record.noise),
        NewTensor::f32("sample", &record.shape, &record.sample),
        NewTensor::f32("target", &record.shape, &record.target),
        NewTensor::i64("timestep", &batch, &record.timestep),
        NewTensor::i64("label", &batch, &record.label),
        NewTensor::i64("caption_id", &batch, &record.caption_id),
        NewTensor::f32("mse", &batch, &record.mse),
        NewTensor::f32("ref_mse", &batch, &record.ref_mse),
        NewTensor::f32("weight", &batch, &record.weight),
        NewTensor::f32("scale", &batch, &record.scale),
    ];
    for (name, value) in ["mu", "loss", "lr", "grad_norm"].into_iter().zip(&scalars) {
        tensors.push(NewTensor::f32(name, &[], std::slice::from_ref(value)));
    }
    let drawn = [record.advantage.len()];
    if !record.advantage.is_empty() {
        tensors.push(NewTensor::f32("advantage", &drawn, &record.advantage));
    }
    for (prefix, values) in [
        ("grad", &record.grad),
        ("lora.before", &record.before),
        ("lora.after", &record.after),
    ] {
        for (factor, part) in factors.parts(values) {
            let name = format!("{prefix}.{}", factor.name);
            tensors.push(NewTensor::f32(name, &factor.shape, part));
        }
    }
    if let Some((id, empty)) = &record.empty {
        let values = &empty.prompt_embeds;
        tensors.push(NewTensor::f32(
            format!("prompt_embeds.{id:08x}"),
            &[values.len()],
            values,
        ));
        if let Some(pooled) = &empty.pooled {
            tensors.push(NewTensor::f32(
                format!("pooled.{id:08x}"),
                &[pooled.len()],
                pooled,
            ));
        }
    }
    let path = dir.join(format!("step-{:05}.safetensors", report.step));
    Ok(write_safetensors(
        path,
        &tensors,
        &metadata(config, report),
    )?)
}

fn metadata(config: &Config, report: &Report) -> BTreeMap<String, String> {
    let Ok(serde_json::Value::Object(all)) = serde_json::to_value(config) else {
        return BTreeMap::new();
    };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let mut metadata: BTreeMap<String, String> =
        all.into_iter().map(|(k, v)| (k, text(v))).collect();
    metadata.insert("step".to_owned(), report.step.to_string());
    metadata.insert("format".to_owned(), "popalign-trace-2".to_owned());
    metadata
}
