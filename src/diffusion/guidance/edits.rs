//! Semantic edits of a guided prediction: Fair Diffusion's (Friedrich et al., arXiv 2302.10893), which
//! are SEGA's (Brack et al., arXiv 2301.12247), as diffusers' `SemanticStableDiffusionPipeline` has them.
//!
//! Each edit is a caption that the prediction is moved towards or away from, but only where the caption
//! matters most: per channel of the latent, elements below a quantile of the edit's size are left out.
//! What edits do gathers momentum from the first step on, and counts after the warm-up.

use std::str::FromStr;

use super::numbers::numbers;

/// How edits act.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Edits {
    /// Steps before they count.
    pub warmup: usize,
    /// s: what an edit is multiplied with.
    pub scale: f32,
    /// λ: the share of a channel's elements that an edit leaves alone.
    pub threshold: f32,
    /// s_m: what the momentum is multiplied with.
    pub momentum: f32,
    /// β: how much of the momentum is kept in a step.
    pub beta: f32,
}

impl Default for Edits {
    /// Fair Diffusion's own (its `generate_images.py`).
    fn default() -> Self {
        Self {
            warmup: 5,
            scale: 4.0,
            threshold: 0.95,
            momentum: 0.5,
            beta: 0.6,
        }
    }
}

impl FromStr for Edits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (warmup, rest) = text.split_once(',')?;
            let warmup = warmup.trim().parse().ok()?;
            let [scale, threshold, momentum, beta] = numbers(rest)?;
            let known = [scale, momentum]
                .into_iter()
                .all(|x| x >= 0.0 && x.is_finite());
            let unit = |x: f64| (0.0..=1.0).contains(&x);
            (known && unit(threshold) && unit(beta)).then_some(Self {
                warmup,
                scale: scale as f32,
                threshold: threshold as f32,
                momentum: momentum as f32,
                beta: beta as f32,
            })
        };
        parse().ok_or_else(|| {
            "expected WARMUP,SCALE,THRESHOLD,MOMENTUM,BETA with a number of steps, SCALE and MOMENTUM \
             from 0, THRESHOLD and BETA from 0 to 1, as 5,4,0.95,0.5,0.6"
                .to_owned()
        })
    }
}

impl Edits {
    /// What edits add to a picture's guidance at step `step`, from 0; nothing during the warm-up.
    /// `negative` is the negative caption's prediction, `edits` each edit's with whether it is moved
    /// away from, `channel` the elements of one channel, `momentum` the picture's own, zeros at first.
    pub(super) fn term<'a>(
        &self,
        step: usize,
        negative: &[f32],
        edits: impl Iterator<Item = (&'a [f32], bool)>,
        channel: usize,
        momentum: &mut [f32],
    ) -> Option<Vec<f32>> {
        let mut term = vec![0.0; negative.len()];
        for (edit, away) in edits {
            let sign = if away { -1.0 } else { 1.0 };
            let moved = edit.iter().zip(negative);
            let moved: Vec<f32> = moved.map(|(e, n)| (e - n) * sign * self.scale).collect();
            for (sum, part) in term.chunks_mut(channel).zip(moved.chunks(channel)) {
                let least = quantile(part, self.threshold);
                for (sum, &x) in sum.iter_mut().zip(part).filter(|(_, x)| x.abs() >= least) {
                    *sum += x;
                }
            }
        }
        for (sum, momentum) in term.iter_mut().zip(momentum) {
            *sum += self.momentum * *momentum;
            *momentum = self.beta * *momentum + (1.0 - self.beta) * *sum;
        }
        (step >= self.warmup).then_some(term)
    }
}

/// The quantile `q` of the values' sizes, as `torch.quantile` interpolates in float32.
#[expect(clippy::cast_precision_loss, reason = "a channel has few elements")]
fn quantile(values: &[f32], q: f32) -> f32 {
    let mut sizes: Vec<f32> = values.iter().map(|x| x.abs()).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let rank = q * (sizes.len() - 1) as f32;
    let below = (rank as usize).min(sizes.len() - 1);
    let (low, high) = (sizes[below], sizes[(below + 1).min(sizes.len() - 1)]);
    let weight = rank - below as f32;
    match weight < 0.5 {
        true => low + weight * (high - low),
        false => high - (high - low) * (1.0 - weight),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_read() {
        assert_eq!("5,4,0.95,0.5,0.6".parse(), Ok(Edits::default()));
        for bad in [
            "",
            "5",
            "-1,4,.9,.5,.6",
            "5,4,1.5,.5,.6",
            "5,-4,.9,.5,.6",
            "5,4,.9,.5,NaN",
        ] {
            assert!(bad.parse::<Edits>().is_err(), "{bad}");
        }
    }

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        let values = [4.0, -1.0, 3.0, -2.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert_eq!(quantile(&values, 0.5), 2.5);
    }

    #[test]
    fn only_the_largest_elements_of_a_channel_are_moved() {
        let edits = Edits {
            warmup: 1,
            threshold: 1.0,
            ..Edits::default()
        };
        let (negative, edit) = ([0.0; 4], [1.0, -2.0, 3.0, 0.5]);
        let mut momentum = [0.0; 4];
        let mut at = |step| {
            edits.term(
                step,
                &negative,
                [(&edit[..], true)].into_iter(),
                2,
                &mut momentum,
            )
        };
        assert_eq!(at(0), None);
        // 8 and -12, and half of two fifths of them.
        let term = at(1).unwrap();
        let expected = [0.0, 8.0 * 1.2, -12.0 * 1.2, 0.0];
        assert!(
            term.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
            "{term:?}"
        );
    }
}
