//! From a finished latent to a picture.
//!
//! One picture at a time: at 1024×1024 the decoder's activations take gigabytes, and a picture's
//! bytes then can't depend on its neighbours.

use std::path::PathBuf;

use image::RgbImage;
use serde_json::Value;

use super::NonFinite;
use crate::bundle::{self, Bundle, Part};
use crate::family::ports::vae;
use crate::picture::from_planes;
use crate::runtime::{self, Feed, Session};

/// Why latents can't be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The VAE failed.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A picture that is none.
    #[error("{0}")]
    NonFinite(NonFinite),
    /// A key of the VAE's configuration.
    #[error("{}: `{key}`: expected {expected}", path.display())]
    Config {
        /// The configuration.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: String,
    },
    /// Pictures of another size than the latents ask for.
    #[error("{}: gives {found:?} for a latent of {latent:?}, expected {expected:?}", path.display())]
    Size {
        /// The model file.
        path: PathBuf,
        /// The latent's shape.
        latent: [usize; 3],
        /// The picture's shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: [usize; 4],
    },
}

/// How latents are scaled for the UNet, from the VAE's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    factor: f32,
    /// Mean and standard deviation of each channel, where the model has them.
    moments: Option<Vec<(f32, f32)>>,
}

impl Scaling {
    /// Reads the configuration; keys and the default are `AutoencoderKL`'s.
    ///
    /// # Errors
    /// [`Error::Config`] for keys of the wrong kind.
    pub fn of(bundle: &Bundle, channels: usize) -> Result<Self, Error> {
        let name = "vae_decoder/config.json";
        let config = bundle.json(name)?;
        let bad = |key, expected| Error::Config {
            path: bundle.dir().join(name),
            key,
            expected,
        };
        let factor = match config.get("scaling_factor") {
            None => 0.18215,
            Some(value) => value
                .as_f64()
                .filter(|f| *f > 0.0)
                .ok_or_else(|| bad("scaling_factor", "a positive number".into()))?,
        };
        let list = |key| match config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value::<Vec<f32>>(value.clone())
                .ok()
                .filter(|list| list.len() == channels)
                .map(Some)
                .ok_or_else(|| bad(key, format!("null or {channels} numbers"))),
        };
        let moments = match (list("latents_mean")?, list("latents_std")?) {
            (Some(mean), Some(std)) => Some(mean.into_iter().zip(std).collect()),
            _ => None,
        };
        Ok(Self {
            factor: factor as f32,
            moments,
        })
    }

    /// A latent as the VAE takes it.
    fn undo(&self, latent: &[f32]) -> Vec<f32> {
        let Some(moments) = &self.moments else {
            return latent.iter().map(|x| x / self.factor).collect();
        };
        let channels = latent.chunks_exact(latent.len() / moments.len());
        channels
            .zip(moments)
            .flat_map(|(channel, &(mean, std))| {
                channel.iter().map(move |x| x * std / self.factor + mean)
            })
            .collect()
    }
}

/// A loaded VAE decoder.
#[derive(Debug)]
pub struct Decoder {
    session: Session,
    scaling: Scaling,
    latent: [usize; 3],
    /// Height and width of a picture.
    size: [usize; 2],
}

impl Decoder {
    /// Takes a loaded VAE decoder; `size` is the height and width of its pictures.
    pub fn new(session: Session, scaling: Scaling, latent: [usize; 3], size: [usize; 2]) -> Self {
        Self {
            session,
            scaling,
            latent,
            size,
        }
    }

    /// Loads a bundle's decoder.
    ///
    /// # Errors
    /// A bundle without one, what ONNX Runtime refuses.
    pub fn open(
        bundle: &Bundle,
        runtime: &runtime::Runtime,
        options: &runtime::SessionOptions,
        latent: [usize; 3],
        size: [usize; 2],
    ) -> Result<Self, Error> {
        let session = bundle.session(runtime, Part::VaeDecoder, options)?;
        let scaling = Scaling::of(bundle, latent[0])?;
        Ok(Self::new(session, scaling, latent, size))
    }

    /// Decodes one latent, scaled as the UNet sees it.
    ///
    /// # Errors
    /// A run that fails, a picture of another size than expected, [`Error::NonFinite`].
    pub fn decode(&mut self, latent: &[f32]) -> Result<RgbImage, Error> {
        let [c, h, w] = self.latent;
        let mut feed = Feed::new();
        feed.push_f32(vae::LATENT_SAMPLE, self.scaling.undo(latent), &[1, c, h, w]);
        let outputs = self.session.run(&feed)?;
        let sample = outputs.f32(vae::SAMPLE)?;
        let [height, width] = self.size;
        let expected = [1, 3, height, width];
        if sample.shape() != expected {
            return Err(Error::Size {
                path: self.session.path().to_path_buf(),
                latent: self.latent,
                found: sample.shape().to_vec(),
                expected,
            });
        }
        let planes: Vec<f32> = sample.iter().copied().collect();
        if planes.iter().any(|x| !x.is_finite()) {
            return Err(Error::NonFinite(NonFinite {
                part: Part::VaeDecoder,
                output: vae::SAMPLE,
                fp16: self.session.is_fp16(),
            }));
        }
        Ok(from_planes(&planes, width as u32, height as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_unscaled_by_factor_or_by_channel() {
        let plain = Scaling {
            factor: 0.5,
            moments: None,
        };
        assert_eq!(plain.undo(&[1.0, 2.0]), [2.0, 4.0]);
        let moments = Scaling {
            factor: 0.5,
            moments: Some(vec![(1.0, 2.0), (-1.0, 4.0)]),
        };
        assert_eq!(moments.undo(&[1.0, 1.0, 1.0, 0.5]), [5.0, 5.0, 7.0, 3.0]);
    }
}
