//! The networks that make pictures and look at them.

use image::RgbImage;

use super::filter::{Filter, Judgement};
use super::setup::Setup;
use super::times::{Times, timed};
use super::{Format, Picture, Result};
use crate::diffusion::painter::{self, Developer, Order, Painter};
use crate::diffusion::pipeline::Settings;
use crate::runtime::SessionOptions;

/// What makes pictures of latents, and says who is in them.
pub(super) struct Viewer {
    developer: Developer,
    filter: Option<Filter>,
}

/// Loads the networks, the VAE only where somebody looks at pictures. `settings` are the setup's, or like
/// them.
pub(super) fn open(
    setup: &Setup,
    session: &SessionOptions,
    settings: &Settings,
) -> Result<(Painter, Viewer)> {
    let filter = setup.filter()?;
    let seen = setup.format != Format::None || filter.is_some();
    let size = seen.then_some([setup.size.height, setup.size.width]);
    let (painter, developer) =
        painter::open(&setup.bundle, &setup.runtime, session, settings, size)?;
    Ok((painter, Viewer { developer, filter }))
}

impl Viewer {
    /// Decodes a batch's latents, if anybody looks at them, and judges the pictures. The times are added.
    pub(super) fn look(
        &mut self,
        latents: &[f32],
        orders: &[Order<'_>],
        pictures: &[Picture<'_>],
        times: &mut Times,
    ) -> Result<(Option<Vec<RgbImage>>, Vec<Judgement>)> {
        let Self { developer, filter } = self;
        let images = timed(&mut times.vae, || developer.decode(latents, orders))?;
        let judgements = match (filter, &images) {
            (Some(filter), Some(images)) => {
                timed(&mut times.filter, || filter.judge(images, pictures))?
            }
            _ => vec![Judgement::default(); pictures.len()],
        };
        Ok((images, judgements))
    }
}
