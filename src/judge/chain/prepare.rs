//! From a picture and a box in it to a model's input.

use image::RgbImage;

use super::manifest::{Channels, Crop, Model};
use crate::picture::{Pixels, planes, resample};

/// A box in a picture: left, top, right, bottom, in pixels.
pub(super) type Bounds = [f64; 4];

/// What the model sees of the box, as [3, height, width] in its channel order and scale.
pub(super) fn tensor(model: &Model, picture: &RgbImage, bounds: Bounds) -> Vec<f32> {
    let cut = whole_pixels(&model.crop, bounds);
    let seen = resample(picture, cut, model.size, model.crop.resize);
    let pixels = Pixels {
        order: match model.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        },
        scale: model.scale,
        mean: model.mean,
        std: model.std,
    };
    planes(&seen, &pixels)
}

/// The whole pixels that a box means after widening and scaling, never none.
fn whole_pixels(crop: &Crop, [left, top, right, bottom]: Bounds) -> [i64; 4] {
    let center = ((left + right) / 2.0, (top + bottom) / 2.0);
    let (mut width, mut height) = (right - left, bottom - top);
    if crop.square {
        width = width.max(height);
        height = width;
    }
    let half = (width * crop.scale / 2.0, height * crop.scale / 2.0);
    // Ties to even, as Python rounds.
    let edge = |x: f64| x.round_ties_even() as i64;
    let (x, y) = (edge(center.0 - half.0), edge(center.1 - half.1));
    [
        x,
        y,
        edge(center.0 + half.0).max(x + 1),
        edge(center.1 + half.1).max(y + 1),
    ]
}
