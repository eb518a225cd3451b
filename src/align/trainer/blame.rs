//! Which sample made a step's numbers infinite or NaN.

use super::{Trainer, pick};
use crate::align::Error;
use crate::align::model::GradientModel;
use crate::align::source::Sample;
use crate::device::{Clip, Device};
use crate::family::ports::training;

impl<D: Device, M: GradientModel<D>> Trainer<D, M> {
    /// Names the sample whose error, at this place of all of them, is not finite.
    pub(super) fn bad_error(&self, samples: &[Sample], errors: &D::Buffer, place: usize) -> Error {
        let value = match self.device.download(errors) {
            Ok(errors) => errors[place],
            Err(error) => return error.into(),
        };
        let output = if place < samples.len() {
            "mse"
        } else {
            "ref_mse"
        };
        let sample = &samples[place % samples.len()];
        self.non_finite(sample, output.to_owned(), value)
    }

    fn non_finite(&self, sample: &Sample, output: String, value: f32) -> Error {
        let (prompt_id, image_id) = self.source.picture(sample);
        Error::NonFinite {
            step: self.done + 1,
            output,
            fp16: self.model.is_fp16(),
            image_id,
            prompt_id,
            caption: self.source.caption(sample).to_owned(),
            value,
        }
    }

    /// Finds the sample whose gradient made the norm infinite or NaN, if it is one of this rank's, by
    /// running the network again.
    pub(super) fn blame(
        &mut self,
        samples: &[Sample],
        parts: &[Vec<usize>],
        c: &D::Buffer,
        clip: Clip,
    ) -> Error {
        let layout = self.factors.layout().clone();
        let c = match self.device.download(c) {
            Ok(c) => c,
            Err(error) => return error.into(),
        };
        for part in parts {
            let Ok(out) = self.run(&pick(samples, part), None) else {
                continue;
            };
            let Ok(values) = self.device.download(&out.grads) else {
                continue;
            };
            for (m, factor) in self.factors.list().iter().enumerate() {
                let own = &values[layout.batch_range(m, part.len())];
                for (i, own) in own.chunks(layout.range(m).len().max(1)).enumerate() {
                    let counts = c[part[i]] != 0.0;
                    if let Some(&bad) = own.iter().find(|v| counts && !v.is_finite()) {
                        let output = training::grad(&factor.name);
                        return self.non_finite(&samples[part[i]], output, bad);
                    }
                }
            }
        }
        Error::NonFiniteBatch {
            step: self.done + 1,
            what: "gradient norm",
            value: f64::from(clip.norm),
        }
    }
}
