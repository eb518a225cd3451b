//! Writing adapters so that diffusers, kohya, ComfyUI and the web UIs load them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::{Factors, LoraAdapter, Result, names};
use crate::tensors::{NewTensor, data_sha256, write_safetensors};

/// How kohya names the blocks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KohyaNames {
    /// SDXL: the original code's `input_blocks_4_1_…`.
    Sgm,
    /// SD 1.5 and models of other shapes: `down_blocks_1_attentions_0_…`.
    Diffusers,
}

/// Writes `pytorch_lora_weights.safetensors` as diffusers' `save_lora_weights` does: keys
/// `unet.<module>.lora_A.weight` and `lora_B.weight`, fp32, with the PEFT configuration in
/// `lora_adapter_metadata`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_diffusers(path: &Path, adapter: &LoraAdapter) -> Result<()> {
    let mut tensors = Vec::with_capacity(2 * adapter.modules.len());
    for (module, f) in &adapter.modules {
        tensors.push(NewTensor::f32(
            format!("unet.{module}.lora_A.weight"),
            &[f.rank, f.inputs()],
            &f.a,
        ));
        tensors.push(NewTensor::f32(
            format!("unet.{module}.lora_B.weight"),
            &[f.outputs(), f.rank],
            &f.b,
        ));
    }
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("lora_adapter_metadata".to_owned(), peft_config(adapter)),
    ]);
    Ok(write_safetensors(path, &tensors, &metadata)?)
}

/// PEFT's LoraConfig, with the keys' `unet.` prefix and layout that diffusers gives it.
fn peft_config(adapter: &LoraAdapter) -> String {
    let (rank, alpha) = common(adapter);
    let differing = |value: &dyn Fn(&Factors) -> Option<f32>| {
        let entry = |(path, f): (&String, &Factors)| Some((path.clone(), value(f)?));
        adapter
            .modules
            .iter()
            .filter_map(entry)
            .collect::<BTreeMap<_, _>>()
    };
    let alphas = differing(&|f| (f.alpha != alpha).then_some(f.alpha));
    let ranks: BTreeMap<_, usize> = differing(&|f| (f.rank != rank).then_some(f.rank as f32))
        .into_iter()
        .map(|(path, rank)| (path, rank as usize))
        .collect();
    let config = json!({
        "unet.alpha_pattern": alphas,
        "unet.base_model_name_or_path": null,
        "unet.bias": "none",
        "unet.fan_in_fan_out": false,
        "unet.inference_mode": false,
        "unet.lora_alpha": alpha,
        "unet.lora_dropout": 0.0,
        "unet.peft_type": "LORA",
        "unet.r": rank,
        "unet.rank_pattern": ranks,
        "unet.target_modules": names::targets(adapter.modules.keys().map(String::as_str)),
        "unet.use_dora": false,
        "unet.use_rslora": false,
    });
    format!("{config:#}")
}

/// The rank and alpha of most modules.
fn common(adapter: &LoraAdapter) -> (usize, f32) {
    let mut counts: BTreeMap<(usize, u32), usize> = BTreeMap::new();
    for f in adapter.modules.values() {
        *counts.entry((f.rank, f.alpha.to_bits())).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|&(_, n)| n);
    most.map_or((1, 1.0), |((rank, alpha), _)| (rank, f32::from_bits(alpha)))
}

/// Writes a file as kohya's `networks.lora` does: `lora_unet_….lora_down.weight`, `lora_up`,
/// `alpha`, fp32. `about` goes into the metadata beside what the factors say: rank, alpha and hashes.
///
/// # Errors
/// When the file cannot be written.
pub fn write_kohya(
    path: &Path,
    adapter: &LoraAdapter,
    naming: KohyaNames,
    about: Option<&BTreeMap<String, String>>,
) -> Result<()> {
    let alphas: Vec<f32> = adapter.modules.values().map(|f| f.alpha).collect();
    let mut tensors = Vec::with_capacity(3 * adapter.modules.len());
    for ((module, f), alpha) in adapter.modules.iter().zip(&alphas) {
        let name = match naming {
            KohyaNames::Sgm => names::to_kohya_sgm(module),
            KohyaNames::Diffusers => names::to_kohya(module),
        };
        let alpha = std::slice::from_ref(alpha);
        tensors.push(NewTensor::f32(format!("{name}.alpha"), &[], alpha));
        let down = format!("{name}.lora_down.weight");
        tensors.push(NewTensor::f32(down, &[f.rank, f.inputs()], &f.a));
        let up = format!("{name}.lora_up.weight");
        tensors.push(NewTensor::f32(up, &[f.outputs(), f.rank], &f.b));
    }
    let (rank, alpha) = common(adapter);
    let hash = data_sha256(&tensors);
    let mut metadata = about.cloned().unwrap_or_default();
    for (key, value) in [
        ("ss_network_module", "networks.lora".to_owned()),
        ("ss_network_dim", rank.to_string()),
        ("ss_network_alpha", alpha.to_string()),
        // What the additional-networks extension takes a file for, whatever its metadata.
        ("sshs_model_hash", hash.clone()),
        ("modelspec.sai_model_spec", "1.0.0".to_owned()),
        ("modelspec.title", "PopAlign LoRA".to_owned()),
        ("modelspec.hash_sha256", format!("0x{hash}")),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    Ok(write_safetensors(path, &tensors, &metadata)?)
}
