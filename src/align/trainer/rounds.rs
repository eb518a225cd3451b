//! Rounds of pictures that a run draws itself.

use super::Trainer;
use crate::align::model::GradientModel;
use crate::align::online::{self, Round};
use crate::align::source::{Arrays, Sample};
use crate::align::validation::Record;
use crate::align::{Error, Result};
use crate::device::{Device, Diffused};
use crate::diffusion::pipeline::Noised;

impl<D: Device, M: GradientModel<D>> Trainer<D, M> {
    /// The round of the next step, if its pictures are not there yet; and how many it has.
    pub fn missing_round(&self) -> Option<(Round, usize)> {
        let round = self.config.online?.round(self.config.steps, self.done);
        let pictures = self.artist.as_ref()?.pictures();
        (self.round != Some(round.number)).then_some((round, pictures))
    }

    /// Draws a round: as it was begun, where a run goes on in it. Gives what its pictures show; nothing if the run
    /// was stopped meanwhile.
    ///
    /// # Errors
    /// [`Error::NobodySeen`]; what the networks run into.
    pub fn draw_round(&mut self, round: Round) -> Result<Option<Record>> {
        let old = match self.old.take().filter(|_| self.done > round.first) {
            Some(old) => old,
            None => self.result()?,
        };
        let lora = self.factors.fitted(&old)?;
        self.old = Some(old);
        let Some(artist) = &mut self.artist else {
            return Ok(None);
        };
        let Some(rollout) = artist.draw(round, lora)? else {
            return Ok(None);
        };
        if rollout.pictures.is_empty() {
            return Err(Error::NobodySeen {
                round: round.number + 1,
                dropped: rollout.record.dropped,
            });
        }
        self.source.set_drawn(rollout.pictures, &rollout.targets);
        self.round = Some(round.number);
        Ok(Some(rollout.record))
    }

    /// Moves the targets of a micro-batch's pictures that the run has drawn: they come first.
    pub(super) fn aim(
        &mut self,
        samples: &[Sample],
        arrays: &Arrays,
        diffused: &mut Diffused<D::Buffer>,
    ) -> Result<()> {
        let pulls: Vec<f32> = samples.iter().map_while(|s| self.source.pull(s)).collect();
        let (Some(artist), false) = (&mut self.artist, pulls.is_empty()) else {
            return Ok(());
        };
        let own = |all: &[f32]| all.len() / samples.len() * pulls.len();
        let sample = self.device.download(&diffused.sample)?;
        let old = artist.predict(&Noised {
            sample: &sample[..own(&sample)],
            timesteps: &arrays.timesteps[..pulls.len()],
            prompt_embeds: &arrays.prompt_embeds[..own(&arrays.prompt_embeds)],
            pooled: &arrays.pooled[..own(&arrays.pooled)],
        })?;
        let mut target = self.device.download(&diffused.target)?;
        let length = target.len() / samples.len();
        let rows = target
            .chunks_exact_mut(length)
            .zip(old.chunks_exact(length));
        for ((target, old), &pull) in rows.zip(&pulls) {
            online::aim(target, old, pull);
        }
        diffused.target = self.device.upload(&target)?;
        Ok(())
    }
}
