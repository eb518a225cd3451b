//! Single-file checkpoints: all networks of a pipeline in one file, under the original code's names.
//!
//! Stability AI's training code names tensors otherwise than diffusers does, and so do the files
//! that people share. Nothing is converted here: each network's tensors get diffusers' names, and
//! still point into the file. Where the original differs in more than names, its bytes still serve:
//!
//! | original | here |
//! | --- | --- |
//! | open_clip's `in_proj_weight` [3c, c] | three pointers to its rows: `q_proj`, `k_proj`, `v_proj` |
//! | open_clip's `text_projection` [in, out] | keeps its name; [`crate::nets::clip`] multiplies without transposing |
//! | the VAE's attention as 1×1 convolutions [c, c, 1, 1] | the same bytes, declared [c, c] |
//!
//! Which blocks halve and double is read off the names, so any number of layers per block works.
//! References: Stability-AI/generative-models `sgm/modules/diffusionmodules`, diffusers 0.42
//! `loaders/single_file_utils.py`.

pub mod clip;
mod numbered;
mod unet;
mod vae;

use std::collections::BTreeMap;
use std::path::Path;

use crate::family::{Error, Family, Result};
use crate::tensors::{Tensor, Weights};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const SD15_TEXT: &str = "cond_stage_model.transformer.";
const SDXL_TEXT: &str = "conditioner.embedders.0.transformer.";
const SDXL_TEXT_2: &str = "conditioner.embedders.1.model.";

/// What training leaves in a checkpoint and no network reads: schedules, moving averages, losses.
const IGNORED: [&str; 12] = [
    "alphas_cumprod",
    "betas",
    "cond_stage_model.logit_scale",
    "conditioner.embedders.1.model.logit_scale",
    "denoiser.sigmas",
    "first_stage_model.loss.",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "lvlb_weights",
    "model_ema.",
    "posterior_",
    "sqrt_",
];

/// What a checkpoint says of itself by empty tensors, as trainers agreed: that it predicts velocity,
const V_PREDICTION: &str = "v_pred";
/// and that it was trained with a schedule that ends in pure noise.
const ZERO_TERMINAL_SNR: &str = "ztsnr";
/// Tensors of up to so many numbers outside the networks say something of the checkpoint (`edm_mean` has
/// four): what isn't known may be another parametrization.
const MARK: u64 = 16;

/// A single-file checkpoint, opened: where each network's tensors lie.
#[derive(Debug)]
pub struct Checkpoint {
    family: Family,
    file: Weights,
    networks: BTreeMap<&'static str, Vec<Tensor>>,
    unknown: Vec<String>,
    v_prediction: bool,
    zero_terminal_snr: bool,
}

impl Checkpoint {
    /// Opens a checkpoint and sorts its tensors by network.
    ///
    /// # Errors
    /// What [`Weights::open_files`] refuses, [`Error::Family`] for a checkpoint of another family,
    /// [`Error::NotCheckpoint`] for a file without a UNet under its original names.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = Weights::open_files([path.as_ref()])?;
        let family = family(path.as_ref(), &file)?;
        let mut checkpoint = Self {
            family,
            networks: BTreeMap::new(),
            unknown: Vec::new(),
            v_prediction: file.tensor(V_PREDICTION).is_some(),
            zero_terminal_snr: file.tensor(ZERO_TERMINAL_SNR).is_some(),
            file,
        };
        checkpoint.sort();
        checkpoint.refuse_other_kinds(path.as_ref())?;
        Ok(checkpoint)
    }

    /// The family it belongs to.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether it says (by an empty tensor, as trainers agreed) that it predicts velocity.
    pub fn v_prediction(&self) -> bool {
        self.v_prediction
    }

    /// Whether it says that it was trained with a schedule that ends in pure noise.
    pub fn zero_terminal_snr(&self) -> bool {
        self.zero_terminal_snr
    }

    /// Names that belong to no network.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether it holds a network, by diffusers' folder: `unet`, `vae`, `text_encoder`,
    /// `text_encoder_2`.
    pub fn has(&self, network: &str) -> bool {
        self.networks.contains_key(network)
    }

    /// The tensors of a network, under diffusers' names.
    ///
    /// # Errors
    /// [`Error::NoNetwork`] if it holds no such network, [`Error::Tensors`] if two of its tensors
    /// get one name.
    pub fn weights(&self, network: &str) -> Result<Weights> {
        let path = self.file.files()[0].to_path_buf();
        let Some(tensors) = self.networks.get(network) else {
            return Err(Error::NoNetwork {
                file: path,
                network: network.to_owned(),
            });
        };
        let files = self.file.files().to_vec();
        Ok(Weights::from_tensors(files, tensors.iter().cloned())?)
    }

    /// Refuses what is drawn otherwise than its networks alone tell: with marks that aren't known
    /// (EDM's, flow matching's), or with more in its UNet than these families have (motion, guidance
    /// embeddings, scales of weights).
    fn refuse_other_kinds(&self, path: &Path) -> Result<()> {
        let tells = |name: &&String| {
            let tensor = self.file.tensor(name);
            let small = tensor.is_some_and(|t| t.shape.iter().product::<u64>() <= MARK);
            let network = [VAE, SD15_TEXT, SDXL_TEXT, SDXL_TEXT_2];
            let inside = network.iter().any(|prefix| name.starts_with(prefix));
            name.starts_with(UNET) || small && !inside
        };
        match self.unknown.iter().find(tells) {
            None => Ok(()),
            Some(key) => Err(Error::Kind {
                file: path.to_path_buf(),
                key: key.clone(),
            }),
        }
    }

    fn sort(&mut self) {
        let names = self.file.iter().map(|tensor| tensor.name.as_str());
        let unet = unet::Names::new(names.clone().filter_map(|n| n.strip_prefix(UNET)));
        let vae = vae::Names::new(names.filter_map(|n| n.strip_prefix(VAE)));
        let first_text = match self.family {
            Family::Sdxl => SDXL_TEXT,
            Family::Sd15 => SD15_TEXT,
        };
        for tensor in self.file.iter() {
            let name = tensor.name.as_str();
            let renamed = |to: String| vec![tensor.renamed(to)];
            let (network, found) = if let Some(rest) = name.strip_prefix(UNET) {
                ("unet", unet.diffusers(rest).map(renamed))
            } else if let Some(rest) = name.strip_prefix(VAE) {
                ("vae", vae.diffusers(rest).map(renamed))
            } else if let Some(rest) = name.strip_prefix(first_text) {
                // OpenAI's CLIP has transformers' names.
                ("text_encoder", Some(renamed(rest.to_owned())))
            } else if let Some(rest) = name.strip_prefix(SDXL_TEXT_2) {
                let text = Some(rest).filter(|rest| !rest.starts_with("visual."));
                (
                    "text_encoder_2",
                    text.and_then(|rest| clip::transformers(rest, tensor)),
                )
            } else {
                ("", None)
            };
            match found {
                Some(tensors) => self.networks.entry(network).or_default().extend(tensors),
                None if IGNORED.iter().any(|p| name.starts_with(p)) => {}
                None if [V_PREDICTION, ZERO_TERMINAL_SNR].contains(&name) => {}
                None => self.unknown.push(name.to_owned()),
            }
        }
    }
}

/// Finds out what a checkpoint is from the names it has.
fn family(path: &Path, file: &Weights) -> Result<Family> {
    let first = |prefix: &str| file.first_with(prefix);
    for (prefix, family) in [
        ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.", "Flux"),
        ("double_blocks.", "Flux"),
        ("cond_stage_model.model.", "Stable Diffusion 2"),
        ("conditioner.embedders.0.model.", "the SDXL refiner"),
    ] {
        if let Some(key) = first(prefix) {
            return Err(Error::Family {
                file: path.to_path_buf(),
                key: key.to_owned(),
                family,
            });
        }
    }
    if first(UNET).is_none() {
        return Err(Error::NotCheckpoint {
            file: path.to_path_buf(),
            tensors: file.iter().count(),
        });
    }
    // A UNet alone tells by its conditioning: only SDXL's takes a label.
    let sdxl = first(SDXL_TEXT_2).is_some() || first("model.diffusion_model.label_emb.").is_some();
    Ok(if sdxl { Family::Sdxl } else { Family::Sd15 })
}
