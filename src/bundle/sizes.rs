//! The sizes that graphs are laid out for.

use super::source::Source;
use super::{Error, Options, Part, Result};
use crate::nets::Config;
use crate::nets::graphs;
use crate::nets::unet::{UnetConfig, sample_size};
use crate::nets::vae::VaeConfig;

/// How the graphs of a checkpoint are to be built.
///
/// # Errors
/// A size that the model can't draw.
pub(super) fn graph_options(source: &Source, options: &Options) -> Result<graphs::Options> {
    let own = match source.config("unet") {
        Ok(unet) => sample_size(&unet),
        Err(_) => None,
    };
    let mut plan = graphs::PlannedSizes::default();
    plan.latent = own.unwrap_or(plan.latent);
    if let Some([width, height]) = options.plan.size {
        let (factor, multiple) = (factor(source)?, multiple(source)?);
        for side in [width, height] {
            if side == 0 || !side.is_multiple_of(factor * multiple) {
                return Err(Error::Size {
                    size: [width, height],
                    multiple: factor * multiple,
                });
            }
        }
        plan.latent = [height / factor, width / factor];
    }
    plan.batch = options.plan.batch.unwrap_or(plan.batch);
    Ok(graphs::Options {
        lora: Some(options.lora.clone()),
        time_ids: source.time_ids(),
        checkpointing: options.checkpointing,
        score_limit: options.score_limit,
        plan,
        ..graphs::Options::default()
    })
}

/// Pixels per latent: the VAE's, else its family's.
pub(super) fn factor(source: &Source) -> Result<u64> {
    if !source.has("vae") {
        return Ok(source.family()?.descriptor().latent_factor);
    }
    let vae = VaeConfig::from_json(&source.config("vae")?);
    let vae = vae.map_err(|e| Error::network(Part::VaeDecoder, source.origin("vae"), e))?;
    Ok(vae.factor())
}

/// What the latents' sides must be multiples of.
pub(super) fn multiple(source: &Source) -> Result<u64> {
    if !source.has("unet") {
        return Ok(1);
    }
    let unet = UnetConfig::from_json(&source.config("unet")?);
    let unet = unet.map_err(|e| Error::network(Part::Unet, source.origin("unet"), e))?;
    Ok(unet.size_multiple())
}
