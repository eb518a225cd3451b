//! A painter and a developer: a UNet and a VAE that make pictures of captions, for whoever wants some.
//! They are two, so that one may draw while the other decodes what was drawn before.

use std::sync::Arc;

use image::RgbImage;

use super::NonFinite;
use super::decode;
use super::decode::Decoder;
use super::pipeline;
use super::pipeline::{Conditioning, Denoiser, Job, Noised, Settings};
use crate::bundle::{self, Bundle, Part};
use crate::lora::Fitted;
use crate::runtime::{Runtime, SessionOptions};

/// Why a picture can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The UNet.
    #[error(transparent)]
    Draw(#[from] pipeline::Error),
    /// The VAE.
    #[error(transparent)]
    Decode(#[from] decode::Error),
    /// A picture that is none.
    #[error("picture {image_id} of \"{caption}\" came out as NaN or infinity: {found}")]
    NonFinite {
        /// Which numbers.
        found: NonFinite,
        /// Its caption.
        caption: String,
        /// Its number among the caption's pictures.
        image_id: u32,
    },
}

impl Error {
    /// Advice for the person at the keyboard, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Bundle(error) | Error::Decode(decode::Error::Bundle(error)) => error.hint(),
            Error::NonFinite { found, .. } => Some(found.hint()),
            _ => None,
        }
    }
}

/// Result of making pictures.
pub type Result<T> = std::result::Result<T, Error>;

/// A picture to draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// Its caption, for messages.
    pub(crate) caption: &'a str,
    /// What the UNet is told.
    pub(crate) job: Job<'a>,
}

/// A loaded UNet that draws latents.
#[derive(Debug)]
pub(crate) struct Painter(Denoiser);

/// A loaded VAE that makes pictures of latents, where somebody looks at them.
#[derive(Debug)]
pub(crate) struct Developer {
    decoder: Option<Decoder>,
    latent_len: usize,
}

/// Loads the networks; the VAE only where somebody looks at pictures, whose height and width
/// are `size`.
pub(crate) fn open(
    bundle: &Bundle,
    runtime: &Runtime,
    session: &SessionOptions,
    settings: &Settings,
    size: Option<[usize; 2]>,
) -> Result<(Painter, Developer)> {
    let unet = bundle.session(runtime, Part::Unet, session)?;
    let decoder = match size {
        None => None,
        Some(size) => {
            let mut options = session.clone();
            options.tensorrt.profile = None;
            let latent = settings.latent;
            Some(Decoder::open(bundle, runtime, &options, latent, size)?)
        }
    };
    let developer = Developer {
        decoder,
        latent_len: settings.latent_len(),
    };
    Ok((Painter(Denoiser::new(unet, settings.clone())), developer))
}

impl Painter {
    /// Draws with this adapter from now on.
    pub(crate) fn set_lora(&mut self, lora: Arc<Fitted>) {
        self.0.set_lora(lora);
    }

    /// What the UNet predicts of noised pictures of one time step, [n, C, h, w], without guidance.
    pub(crate) fn predict(&mut self, noised: &Noised<'_>) -> Result<Vec<f32>> {
        Ok(self.0.predict(noised)?)
    }

    /// Draws a batch's latents. `stepped` is called after each step.
    pub(crate) fn draw(
        &mut self,
        orders: &[Order<'_>],
        negative: Conditioning<'_>,
        stepped: &mut dyn FnMut(),
    ) -> Result<Vec<f32>> {
        let jobs: Vec<Job<'_>> = orders.iter().map(|order| order.job).collect();
        let drawn = self.0.draw(&jobs, negative, stepped);
        drawn.map_err(|error| match error {
            pipeline::Error::NonFinite { found, job, .. } => non_finite(&orders[job], found),
            other => other.into(),
        })
    }
}

impl Developer {
    /// Decodes a batch's latents, if anybody looks at pictures.
    pub(crate) fn decode(
        &mut self,
        latents: &[f32],
        orders: &[Order<'_>],
    ) -> Result<Option<Vec<RgbImage>>> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        let both = latents.chunks_exact(self.latent_len).zip(orders);
        let images = both
            .map(|(latent, order)| {
                decoder.decode(latent).map_err(|error| match error {
                    decode::Error::NonFinite(found) => non_finite(order, found),
                    other => other.into(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Some(images))
    }
}

fn non_finite(order: &Order<'_>, found: NonFinite) -> Error {
    Error::NonFinite {
        found,
        caption: order.caption.to_owned(),
        image_id: order.job.image_id,
    }
}
