//! Reading pictures as people see them.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};

/// Largest side of a picture that is read. More is a mistake or an attack, not a photograph.
const LARGEST_SIDE: u32 = 1 << 15;

/// Decodes a picture by what its bytes are, whatever its name says, turned as its EXIF says.
/// Nothing if it can't be decoded.
pub fn decode(bytes: &[u8]) -> Option<RgbImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let orientation = decoder.orientation().ok()?;
    let mut picture = DynamicImage::from_decoder(decoder).ok()?;
    picture.apply_orientation(orientation);
    Some(on_white(picture))
}

/// A picture without its transparency: what is see-through is white, as on a page.
fn on_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (to, from) in opaque.pixels_mut().zip(picture.pixels()) {
        let [r, g, b, a] = from.0.map(u32::from);
        let mix = |c: u32| ((c * a + 255 * (255 - a) + 127) / 255) as u8;
        to.0 = [mix(r), mix(g), mix(b)];
    }
    opaque
}

/// The mean absolute difference of two pictures' pixels as a share of the whole range; nothing if
/// they differ in size.
pub fn difference(a: &RgbImage, b: &RgbImage) -> Option<f64> {
    if a.dimensions() != b.dimensions() || a.is_empty() {
        return None;
    }
    let pairs = a.as_raw().iter().zip(b.as_raw());
    let sum: u64 = pairs.map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
    Some(sum as f64 / a.as_raw().len() as f64 / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, Rgb, Rgba, RgbaImage};

    fn png(picture: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture
            .into()
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_no_picture_is_nothing() {
        let whole = png(RgbImage::from_pixel(9, 7, Rgb([1, 2, 3])));
        assert_eq!(decode(&whole).unwrap().dimensions(), (9, 7));
        assert!(decode(&whole[..whole.len() / 2]).is_none());
        assert!(decode(b"").is_none());
        assert!(decode(b"a photo of a doctor").is_none());
    }

    #[test]
    fn the_transparent_is_white() {
        let mut picture = RgbaImage::from_pixel(2, 1, Rgba([10, 20, 30, 255]));
        picture.put_pixel(1, 0, Rgba([10, 20, 30, 0]));
        let decoded = decode(&png(picture)).unwrap();
        assert_eq!(decoded.get_pixel(0, 0), &Rgb([10, 20, 30]));
        assert_eq!(decoded.get_pixel(1, 0), &Rgb([255, 255, 255]));
    }

    #[test]
    fn differences_are_shares_of_the_range() {
        let black = RgbImage::new(4, 4);
        let white = RgbImage::from_pixel(4, 4, Rgb([255; 3]));
        assert_eq!(difference(&black, &white), Some(1.0));
        assert_eq!(difference(&black, &black), Some(0.0));
        assert_eq!(difference(&black, &RgbImage::new(4, 5)), None);
    }
}
