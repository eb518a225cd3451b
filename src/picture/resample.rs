//! Cropping and resizing as Pillow does it, to the bit.
//!
//! The classifiers were trained on pictures that Pillow shrank, and other antialiased filters shift
//! their scores by more than the tolerance the chain is held to. Pillow resamples 8-bit pixels in
//! two passes, horizontal first, each with fixed-point weights of [`PRECISION`] bits and a rounded
//! 8-bit result; all of that is visible in the last bit, so all of it is done here too.
//!
//! Only one thing is not as there: what a crop has of the outside of its picture is black, and
//! black adds nothing to a sum, so it is never stored. A square about a panorama costs what the
//! panorama has of pixels.
//!
//! [`resample_unrounded`] is the same filters without fixed points, as torch resizes tensors.

use image::RgbImage;

use serde::{Deserialize, Serialize};

/// Fractional bits of a weight (Pillow's `PRECISION_BITS`: 32 less 8 for the pixel, 2 for sums).
const PRECISION: u32 = 32 - 8 - 2;
/// One half, so that cutting the fraction off rounds.
const ROUND: i32 = 1 << (PRECISION - 1);

/// Resampling filters, each as Pillow computes it (antialiased when shrinking).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle filter.
    #[default]
    Bilinear,
    /// Cubic convolution with a = −0.5.
    Bicubic,
}

/// One output pixel's share of the input pixels `from..`.
struct Taps<W> {
    from: usize,
    weights: Vec<W>,
}

impl Filter {
    /// Half the width of the filter, in input pixels at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        /// Pillow's choice, as in Catmull and Rom's spline.
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// What lies in `[left, top, right, bottom)` of a picture (black where that is outside of it),
/// brought to `width` by `height` pixels.
///
/// # Panics
/// If the box is empty or the size is 0.
pub fn resample(
    picture: &RgbImage,
    [left, top, right, bottom]: [i64; 4],
    [width, height]: [u32; 2],
    filter: Filter,
) -> RgbImage {
    assert!(left < right && top < bottom && width > 0 && height > 0);
    let columns = taps((left, right), picture.width(), width, filter, fixed);
    let rows = taps((top, bottom), picture.height(), height, filter, fixed);
    // The picture's rows that the second pass will look at.
    let first = rows.iter().map(|t| t.from).min().unwrap_or(0);
    let end = rows.iter().map(|t| t.from + t.weights.len()).max();
    let used = first..end.unwrap_or(0).max(first);
    let stride = 3 * width as usize;
    let mut wide = vec![0u8; stride * used.len()];
    let sources = picture.chunks_exact(3 * (picture.width() as usize).max(1));
    for (from, to) in sources.skip(first).zip(wide.chunks_exact_mut(stride)) {
        horizontal(from, to, &columns);
    }
    let mut out = RgbImage::new(width, height);
    let mut sums = vec![0i32; stride];
    for (to, taps) in out.chunks_exact_mut(stride).zip(&rows) {
        let from = stride * (taps.from - first);
        vertical(&wide[from..], to, &taps.weights, &mut sums);
    }
    out
}

/// A whole picture brought to `width` by `height` pixels as `torch.nn.functional.interpolate` does it with
/// `antialias=True` to a tensor of the picture's bytes divided by 255: `[3, height, width]`, row-major.
/// A cubic filter's overshoots stay.
///
/// # Panics
/// If the picture is empty or the size is 0.
pub fn resample_unrounded(
    picture: &RgbImage,
    [width, height]: [u32; 2],
    filter: Filter,
) -> Vec<f32> {
    let (from_width, from_height) = picture.dimensions();
    assert!(from_width > 0 && from_height > 0 && width > 0 && height > 0);
    let single = |weight: f64| weight as f32;
    let columns = taps((0, from_width.into()), from_width, width, filter, single);
    let rows = taps((0, from_height.into()), from_height, height, filter, single);
    let stride = width as usize;
    let plane = |channel: usize| {
        let mut wide = Vec::with_capacity(stride * from_height as usize);
        for row in picture.chunks_exact(3 * from_width as usize) {
            wide.extend(columns.iter().map(|taps| {
                let pixels = row[3 * taps.from..].chunks_exact(3).zip(&taps.weights);
                pixels
                    .map(|(pixel, weight)| f32::from(pixel[channel]) / 255.0 * weight)
                    .sum::<f32>()
            }));
        }
        let mut out = vec![0.0; stride * height as usize];
        for (to, taps) in out.chunks_exact_mut(stride).zip(&rows) {
            let sources = wide[stride * taps.from..].chunks_exact(stride);
            for (source, weight) in sources.zip(&taps.weights) {
                to.iter_mut()
                    .zip(source)
                    .for_each(|(sum, value)| *sum += value * weight);
            }
        }
        out
    };
    (0..3).flat_map(plane).collect()
}

/// One row of pixels to another width.
fn horizontal(from: &[u8], to: &mut [u8], columns: &[Taps<i32>]) {
    for (pixel, taps) in to.chunks_exact_mut(3).zip(columns) {
        let mut sums = [ROUND; 3];
        for (source, &weight) in from[3 * taps.from..].chunks_exact(3).zip(&taps.weights) {
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum += i32::from(value) * weight;
            }
        }
        for (value, sum) in pixel.iter_mut().zip(sums) {
            *value = clip(sum);
        }
    }
}

/// Some rows, weighted, to one.
fn vertical(from: &[u8], to: &mut [u8], weights: &[i32], sums: &mut [i32]) {
    sums.fill(ROUND);
    for (source, &weight) in from.chunks_exact(to.len()).zip(weights) {
        for (sum, &value) in sums.iter_mut().zip(source) {
            *sum += i32::from(value) * weight;
        }
    }
    for (value, &sum) in to.iter_mut().zip(&*sums) {
        *value = clip(sum);
    }
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The weights of each output pixel for `start..end` of an axis of `length` pixels, each as `number`
/// stores it.
fn taps<W>(
    (start, end): (i64, i64),
    length: u32,
    to: u32,
    filter: Filter,
    number: fn(f64) -> W,
) -> Vec<Taps<W>> {
    let size = (end - start) as u64;
    let scale = size as f64 / f64::from(to);
    // Shrinking widens the filter over all the pixels that one output pixel covers.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = |x: u32| {
        let center = (f64::from(x) + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as u64;
        let last = ((center + support + 0.5) as u64).min(size);
        let weight = |i: u64| filter.at((i as f64 - center + 0.5) * (1.0 / stretch));
        let sum: f64 = (first..last).map(weight).sum();
        // Only pixels that the picture has.
        let inside = |i: u64| (start + i as i64).clamp(0, i64::from(length));
        let (from, until) = (inside(first), inside(last));
        let weights = (from..until)
            .map(|i| number(weight((i - start) as u64) / sum))
            .collect();
        Taps {
            from: from as usize,
            weights,
        }
    };
    (0..to).map(one).collect()
}

/// A weight as Pillow rounds it.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION);
    (scaled + 0.5f64.copysign(scaled)) as i32
}
