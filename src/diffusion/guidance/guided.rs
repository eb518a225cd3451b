//! Guidance: what becomes of the UNet's predictions, and when.

use super::annealing::{Annealing, Compat, Moments};
use super::edits::Edits;
use super::interval::Interval;
use super::moment::Moment;

/// Guidance with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Its scale; 1 or less is no guidance.
    pub scale: f32,
    /// What beside the scale steers.
    pub method: Method,
    /// φ: how much of a guided prediction is brought back to the positive one's deviation, 0 to 1.
    pub rescale: f32,
    /// The steps that are guided.
    pub interval: Interval,
}

/// What beside the scale steers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Nothing.
    Plain,
    /// Captions that fade in.
    Cads(Annealing, Compat),
    /// A scale that fades in.
    DynamicCfg(Annealing, Compat),
    /// Edits.
    FairDiffusion(Edits),
}

/// What a batch's predictions are, picture by picture.
#[derive(Debug)]
pub struct Layout<'a> {
    /// Elements of a channel.
    pub channel: usize,
    /// Elements of a picture's prediction.
    pub picture: usize,
    /// Per picture its edits in order: whether each is moved away from.
    pub away: &'a [Vec<bool>],
}

impl Guidance {
    /// Plain guidance of a scale.
    pub fn plain(scale: f32) -> Self {
        Self {
            scale,
            method: Method::Plain,
            rescale: 0.0,
            interval: Interval::default(),
        }
    }

    /// Whether the UNet must see the negative caption too.
    pub fn doubles(&self) -> bool {
        self.scale > 1.0
    }

    /// Rows of the UNet's batch that a picture with so many edits takes.
    pub fn rows(&self, edits: usize) -> usize {
        match self.doubles() {
            true => 2 + edits,
            false => 1,
        }
    }

    /// Whether it must at this moment.
    pub fn guides(&self, at: &Moment) -> bool {
        self.doubles() && self.interval.has(at.step, at.steps)
    }

    /// Replaces the first rows of `predictions` (the negative captions'; the positive ones' and the
    /// edits' follow) by the guided predictions and returns these. `momentum` is the drawing's own: as
    /// many numbers as it returns, zeros at first.
    ///
    /// # Panics
    /// If there are not as many rows as `layout` says.
    pub fn combine<'a>(
        &self,
        at: &Moment,
        predictions: &'a mut [f32],
        layout: &Layout<'_>,
        momentum: &mut [f32],
    ) -> &'a [f32] {
        let scale = match self.method {
            Method::DynamicCfg(annealing, compat) => {
                (f64::from(self.scale) * annealing.share(compat.of_scale(at))) as f32
            }
            _ => self.scale,
        };
        let length = layout.picture;
        let all = layout.away.len() * length;
        let (negative, rest) = predictions.split_at_mut(all);
        let (positive, edits) = rest.split_at(all);
        let mut edits = edits.chunks_exact(length);
        let pictures = negative
            .chunks_exact_mut(length)
            .zip(positive.chunks_exact(length));
        let states = momentum.chunks_exact_mut(length).zip(layout.away);
        for ((negative, positive), (momentum, away)) in pictures.zip(states) {
            let own = edits.by_ref().zip(away.iter().copied());
            let term = match self.method {
                Method::FairDiffusion(numbers) if !away.is_empty() => numbers.term(
                    at.step,
                    negative,
                    own.take(away.len()),
                    layout.channel,
                    momentum,
                ),
                _ => None,
            };
            for (i, (n, p)) in negative.iter_mut().zip(positive).enumerate() {
                let guidance = scale * (*p - *n);
                *n += term.as_ref().map_or(guidance, |term| guidance + term[i]);
            }
            if self.rescale > 0.0 {
                rescale(negative, positive, self.rescale);
            }
        }
        &*negative
    }

    /// Whether captions' embeddings are other than whole.
    pub fn anneals(&self, at: &Moment) -> bool {
        self.drowned(at) < 1.0
    }

    /// Whether the negative caption's are too.
    pub fn anneals_negative(&self, at: &Moment) -> bool {
        matches!(self.method, Method::Cads(_, Compat::Official)) && self.anneals(at)
    }

    /// γ of captions.
    fn drowned(&self, at: &Moment) -> f64 {
        match self.method {
            Method::Cads(annealing, compat) => annealing.share(compat.of_captions(at)),
            _ => 1.0,
        }
    }

    /// Makes a whole embedding what the UNet sees of it; `noise` holds as many standard normals.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn anneal(&self, at: &Moment, embedding: &mut [f32], noise: &[f32]) {
        assert_eq!(embedding.len(), noise.len());
        if let Method::Cads(annealing, _) = self.method {
            annealing.apply(self.drowned(at), embedding, noise);
        }
    }
}

/// Brings a share of a guided prediction back to the positive one's deviation (diffusers'
/// `rescale_noise_cfg`).
fn rescale(guided: &mut [f32], positive: &[f32], share: f32) {
    let stretch = (Moments::of(positive).deviation / Moments::of(guided).deviation) as f32;
    for x in guided {
        *x = share * (*x * stretch) + (1.0 - share) * *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: f64) -> Moment {
        Moment {
            step: 0,
            steps: 1,
            time,
            first: 1.0,
        }
    }

    /// What is made of pictures of two elements.
    fn guided(guidance: Guidance, time: f64, rows: &mut [f32]) -> Vec<f32> {
        let away = vec![Vec::new(); rows.len() / 4];
        let layout = Layout {
            channel: 2,
            picture: 2,
            away: &away,
        };
        let mut momentum = vec![0.0; rows.len() / 2];
        guidance
            .combine(&at(time), rows, &layout, &mut momentum)
            .to_vec()
    }

    #[test]
    fn the_prediction_moves_from_the_negative_past_the_positive() {
        let plain = Guidance::plain(5.0);
        assert_eq!(guided(plain, 1.0, &mut [1.0, -2.0, 3.0, 2.0]), [11.0, 18.0]);
        assert!(!Guidance::plain(1.0).doubles());
    }

    #[test]
    fn a_dynamic_scale_fades_in() {
        let guidance = Guidance {
            method: Method::DynamicCfg(Annealing::default(), Compat::Paper),
            ..Guidance::plain(4.0)
        };
        for (t, expected) in [(0.95, 1.0), (0.9, 1.0), (0.75, 5.0), (0.6, 9.0), (0.1, 9.0)] {
            let found = guided(guidance, t, &mut [1.0, 1.0, 3.0, 3.0])[0];
            assert!((found - expected).abs() < 1e-5, "{t}: {found}");
        }
    }

    #[test]
    fn captions_fade_in_or_as_the_official_code_has_it_out() {
        let cads = |compat| Guidance {
            method: Method::Cads(Annealing::default(), compat),
            ..Guidance::plain(5.0)
        };
        let (paper, official) = (cads(Compat::Paper), cads(Compat::Official));
        assert!(paper.anneals(&at(0.8)) && !paper.anneals(&at(0.6)));
        assert!(!official.anneals(&at(0.8)) && official.anneals(&at(0.2)));
        assert!(official.anneals_negative(&at(0.2)) && !paper.anneals_negative(&at(0.8)));
    }
}
