//! What a run tells the users of its LoRA: a model card, and what kohya's tools and UIs read in the file.

mod base;
mod card;
mod kohya;

pub use card::{FIGURES, put_figures};

use std::collections::BTreeSet;
use std::path::Path;

use base::Base;

use super::Result;
use super::config::Config;
use super::factors::FactorSet;
use super::log;
use super::trainer::Snapshot;
use crate::base::{fsio, time};
use crate::bundle::Bundle;
use crate::data::pool::Pool;
use crate::diffusion::schedule::SchedulerConfig;
use crate::family::Prediction;
use crate::lora::{self, LoraAdapter};
use crate::prompts::Axes;

/// The card's name.
pub(super) const CARD: &str = "README.md";

/// What there is to tell.
pub(super) struct About {
    base: Base,
    config: Config,
    prediction: Prediction,
    /// Width and height in pixels of each data set's pictures.
    sizes: Vec<[usize; 2]>,
    /// Pictures that the filter kept, and their captions.
    pictures: usize,
    captions: usize,
    axes: Option<Axes>,
}

impl About {
    /// Takes what is known before the first step.
    ///
    /// # Errors
    /// The bundle's configuration can't be read.
    pub(super) fn new(
        config: &Config,
        bundle: &Bundle,
        scheduler: &SchedulerConfig,
        pool: &Pool,
        axes: Option<&Axes>,
    ) -> Result<Self> {
        let mut sizes: Vec<[usize; 2]> = pool
            .sets()
            .iter()
            .map(|set| {
                let layout = &set.manifest().layout;
                [layout.width, layout.height]
            })
            .collect();
        sizes.dedup();
        let captions: BTreeSet<u32> = pool.kept().map(|(_, row)| row.prompt_id).collect();
        Ok(Self {
            base: Base::of(bundle)?,
            config: config.clone(),
            prediction: scheduler.prediction,
            sizes,
            pictures: pool.kept().count(),
            captions: captions.len(),
            axes: axes.cloned(),
        })
    }

    /// Writes kohya's file.
    pub(super) fn write_kohya(
        &self,
        dir: &Path,
        name: &str,
        adapter: &LoraAdapter,
        steps: u32,
    ) -> Result<()> {
        let begun = time::source_date().or_else(|| log::began(dir));
        let metadata = self.kohya(steps, begun);
        Ok(lora::write_kohya(
            &dir.join(name),
            adapter,
            self.base.naming,
            Some(&metadata),
        )?)
    }

    /// Writes the card, unless somebody has made it their own.
    pub(super) fn write_card(
        &self,
        dir: &Path,
        snapshot: &Snapshot,
        factors: &FactorSet,
    ) -> Result<()> {
        let path = dir.join(CARD);
        let before = match path.exists() {
            true => Some(fsio::read_to_string(&path)?),
            false => None,
        };
        if let Some(text) = self.card(snapshot.step, factors.parameters(), before.as_deref()) {
            fsio::write(&path, text)?;
        }
        Ok(())
    }
}
