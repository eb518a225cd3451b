//! Sizes of pictures and latents, and what the model is told of them.

use super::{Error, Request, Result, Size};
use crate::bundle::{Bundle, Part};
use crate::family::SizeConditions;
use crate::nets::read_config;
use crate::nets::unet::{UnetConfig, sample_size};
use crate::nets::vae::VaeConfig;

/// Sizes of pictures and latents.
pub(super) struct Geometry {
    pub(super) size: Size,
    pub(super) latent: [usize; 3],
    /// What the model is told of sizes, where that isn't that the pictures are whole.
    pub(super) conditions: Option<SizeConditions>,
}

impl Geometry {
    pub(super) fn of(request: &Request, bundle: &Bundle) -> Result<Self> {
        let dir = bundle.dir();
        bundle.part(Part::Unet)?;
        bundle.part(Part::VaeDecoder)?;
        let unet: UnetConfig = read_config(&dir.join("unet/config.json"))?;
        let vae: VaeConfig = read_config(&dir.join("vae_decoder/config.json"))?;
        let model = |problem: String| Error::Model {
            dir: dir.to_path_buf(),
            problem,
        };
        if unet.in_channels != vae.latent_channels {
            return Err(model(format!(
                "its UNet takes {} channels and its VAE has {}; inpainting and editing models \
                 can't draw from text alone",
                unet.in_channels, vae.latent_channels
            )));
        }
        let factor = vae.factor() as usize;
        let size = match request.size {
            Some(size) => size,
            None => own_size(bundle, factor)?
                .ok_or_else(|| model("unet/config.json has no `sample_size`; say --size".into()))?,
        };
        check_multiple(size, factor * unet.size_multiple() as usize)?;
        let latent = [
            unet.in_channels as usize,
            size.height / factor,
            size.width / factor,
        ];
        Ok(Self {
            size,
            latent,
            conditions: conditions(request, bundle, size)?,
        })
    }
}

/// What is asked to be told of sizes, of a model that is told any.
fn conditions(request: &Request, bundle: &Bundle, size: Size) -> Result<Option<SizeConditions>> {
    let (original, crop) = (request.original_size, request.crop);
    let asked = [
        ("original-size", original.map(|size| size.to_string())),
        ("crop", crop.map(|crop| crop.to_string())),
    ];
    let asked = asked
        .into_iter()
        .find_map(|(option, value)| Some((option, value?)));
    let Some((option, value)) = asked else {
        return Ok(None);
    };
    if !bundle.family()?.descriptor().added_conditioning {
        let problem = "SDXL is told of sizes; this model isn't, so there is nothing to say".into();
        return Err(Error::Option {
            option,
            value,
            problem,
        });
    }
    let whole = SizeConditions::whole(size.height, size.width);
    Ok(Some(SizeConditions {
        original: original.map_or(whole.original, |size| [size.height, size.width]),
        crop: crop.map_or(whole.crop, |crop| [crop.top, crop.left]),
        ..whole
    }))
}

/// Refuses a size that the model can't draw, and names what is near.
fn check_multiple(size: Size, multiple: usize) -> Result<()> {
    for (side, pixels) in [("width", size.width), ("height", size.height)] {
        if pixels.is_multiple_of(multiple) {
            continue;
        }
        let high = pixels.next_multiple_of(multiple);
        let near = match pixels / multiple * multiple {
            0 => format!("{high}"),
            low => format!("{low} or {high}"),
        };
        return Err(Error::Option {
            option: "size",
            value: size.to_string(),
            problem: format!(
                "the {side} must be a multiple of {multiple} for this model, such as {near}"
            ),
        });
    }
    Ok(())
}

/// The size that the model was trained for.
fn own_size(bundle: &Bundle, factor: usize) -> Result<Option<Size>> {
    let config = bundle.json("unet/config.json")?;
    Ok(sample_size(&config).map(|[height, width]| Size {
        width: width as usize * factor,
        height: height as usize * factor,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_does_not_fit_is_told_what_would() {
        let check = |width, height| {
            let problem = check_multiple(Size { width, height }, 16);
            problem.map_err(|error| error.to_string())
        };
        assert_eq!(check(32, 16), Ok(()));
        assert!(check(40, 16).unwrap_err().ends_with("such as 32 or 48"));
        assert!(check(32, 8).unwrap_err().ends_with("such as 16"));
    }
}
