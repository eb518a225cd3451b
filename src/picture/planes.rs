//! Between interleaved bytes and the planes of numbers that networks take and give.

use image::{Rgb, RgbImage};

/// How a network wants its pixels: x = (byte · scale − mean) / std.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    /// The picture's channel (0 red, 1 green, 2 blue) that each plane holds.
    pub order: [usize; 3],
    /// What bytes (0..255) are multiplied by first.
    pub scale: f32,
    /// What is subtracted then, by plane.
    pub mean: [f32; 3],
    /// What the difference is divided by, by plane.
    pub std: [f32; 3],
}

/// A picture's pixels as `[3, height, width]`, row-major.
pub fn planes(picture: &RgbImage, pixels: &Pixels) -> Vec<f32> {
    let plane = |index: usize| {
        let source = pixels.order[index];
        let (scale, mean, std) = (pixels.scale, pixels.mean[index], pixels.std[index]);
        picture
            .pixels()
            .map(move |p| (f32::from(p.0[source]) * scale - mean) / std)
    };
    (0..3).flat_map(plane).collect()
}

/// The picture of three planes of −1..1 (`[3, height, width]`: red, green, blue), rounded as numpy
/// rounds; what lies outside becomes the nearest byte.
///
/// # Panics
/// If there are fewer numbers than three planes have.
pub fn from_planes(planes: &[f32], width: u32, height: u32) -> RgbImage {
    let byte = |x: f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let pixels = width as usize * height as usize;
    RgbImage::from_fn(width, height, |x, y| {
        let at = y as usize * width as usize + x as usize;
        Rgb([0, 1, 2].map(|plane| byte(planes[plane * pixels + at])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_rounded_and_clamped_bytes() {
        let planes = [-1.0, 1.0, 0.0, -7.0, 7.0, 0.5];
        let picture = from_planes(&planes, 2, 1);
        // 0 is 127.5, which rounds to the even 128; 0.5 is 191.25.
        assert_eq!(picture.into_raw(), [0, 128, 255, 255, 0, 191]);
    }

    #[test]
    fn bytes_become_scaled_planes_in_the_networks_order() {
        let mut picture = RgbImage::new(2, 1);
        picture.put_pixel(0, 0, Rgb([2, 4, 6]));
        picture.put_pixel(1, 0, Rgb([8, 10, 12]));
        let pixels = Pixels {
            order: [2, 1, 0],
            scale: 0.5,
            mean: [1.0, 2.0, 3.0],
            std: [1.0, 2.0, 0.5],
        };
        assert_eq!(planes(&picture, &pixels), [2.0, 5.0, 0.0, 1.5, -4.0, 2.0]);
    }
}
