//! The networks that make pictures and look at them, for threads that take turns.
//!
//! While one thread's batch is in the UNet, another one's may be decoded and judged: each of the two
//! has a lock of its own. Threads wait for each other there, so no more batches are under way than there
//! are threads.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use image::RgbImage;

use super::filter::{Filter, Judgement};
use super::progress::{Times, timed};
use super::setup::Setup;
use super::{Format, Picture, Result};
use crate::diffusion::painter::{self, Developer, Order, Painter};
use crate::diffusion::pipeline::{Conditioning, Settings};
use crate::runtime::SessionOptions;

/// Loaded networks.
pub(super) struct Studio {
    painter: Mutex<Painter>,
    viewer: Mutex<Viewer>,
}

/// What makes pictures of latents, and says who is in them.
struct Viewer {
    developer: Developer,
    filter: Option<Filter>,
}

impl Studio {
    /// Loads the networks, the VAE only where somebody looks at pictures. `settings` are the setup's, or
    /// like them.
    pub(super) fn open(
        setup: &Setup,
        session: &SessionOptions,
        settings: &Settings,
    ) -> Result<Self> {
        let filter = setup.filter()?;
        let seen = setup.format != Format::None || filter.is_some();
        let size = seen.then_some([setup.size.height, setup.size.width]);
        let (painter, developer) =
            painter::open(&setup.bundle, &setup.runtime, session, settings, size)?;
        Ok(Self {
            painter: Mutex::new(painter),
            viewer: Mutex::new(Viewer { developer, filter }),
        })
    }

    /// Draws a batch's latents; `stepped` is called after each step. The time in the UNet is added.
    pub(super) fn draw(
        &self,
        orders: &[Order<'_>],
        negative: Conditioning<'_>,
        stepped: &mut dyn FnMut(),
        time: &mut Duration,
    ) -> Result<Vec<f32>> {
        let mut painter = lock(&self.painter);
        Ok(timed(time, || painter.draw(orders, negative, stepped))?)
    }

    /// Decodes a batch's latents, if anybody looks at them, and judges the pictures. The times are added.
    pub(super) fn look(
        &self,
        latents: &[f32],
        orders: &[Order<'_>],
        pictures: &[Picture<'_>],
        times: &mut Times,
    ) -> Result<(Option<Vec<RgbImage>>, Vec<Judgement>)> {
        let mut viewer = lock(&self.viewer);
        let Viewer { developer, filter } = &mut *viewer;
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

/// A thread that panicked ends the run; until then the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
